"""The cost of PGPO in a training step: wall time, floating-point operations, temporary memory.

    python -m benchmarks.step_overhead --json step_overhead.json

Four steps are compiled on the shapes of the `tiny` preset and timed in turns, in one process.
`bare` is SDPO as one would write it without this project: no multiplier, no signal, only the loss
is returned. `sdpo` is ours with alpha = 0. `pgpo` is ours. `budget` has the information budget in
the place of Eq. 9, which measures how far the update moves the policy.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks._batch import random_batch
from benchmarks._config_step import first_state, jitted_step, without_multiplier
from benchmarks._record import add_json_flag, in_turns, ratio, report
from pgpo_jax.models import Qwen3, Qwen3Config
from pgpo_jax.training import (
    PRESETS,
    Experience,
    TrainConfig,
    TrainState,
    with_information,
)

SHAPE = Qwen3Config(
    vocab_size=832,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    rope_theta=1e4,
    tie_word_embeddings=True,
)


KINDS = ("bare", "sdpo", "pgpo", "budget")


def kind_of_step(
    name: str, base: TrainConfig
) -> tuple[TrainConfig, optax.GradientTransformationExtraArgs, Callable[[Any], Any]]:
    """Configuration and optimizer of one kind of step, and what its jitted step is wrapped in."""
    if name == "budget":
        config = with_information(base, "budget")
    else:
        config = base if name == "pgpo" else without_multiplier(base)
    if name != "bare":
        return config, config.make_optimizer(), lambda step: step
    settings = config.optimizer
    rate = optax.linear_schedule(0.0, settings.learning_rate, settings.warmup_steps)
    optimizer = optax.with_extra_args_support(
        optax.chain(
            optax.clip_by_global_norm(settings.clip_norm),
            optax.adamw(rate, weight_decay=settings.weight_decay),
        )
    )

    def with_loss_only(step: Any) -> Any:
        def only_loss(state: TrainState, batch: Experience) -> tuple[TrainState, jax.Array]:
            state, metrics, _ = step(state, batch)
            return state, metrics["loss"]

        return jax.jit(only_loss, donate_argnums=0)

    return config, optimizer, with_loss_only


def make_step(
    name: str, graphdef: Any, params: Any, batch: Experience
) -> tuple[Callable[..., Any], TrainState]:
    """The compiled step of one kind, and its first state."""
    config, optimizer, wrapped = kind_of_step(name, PRESETS["tiny"])
    step = wrapped(jitted_step(graphdef, config, optimizer))
    state = first_state(jax.tree.map(jnp.copy, params), config, optimizer)
    return step.lower(state, batch).compile(), state


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60, help="timed steps of each kind")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    graphdef, params = nnx.split(Qwen3(SHAPE, rngs=nnx.Rngs(0)), nnx.Param)
    rollout = PRESETS["tiny"].rollout
    batch = random_batch(
        SHAPE.vocab_size,
        rows=rollout.rows,
        prompt=rollout.max_prompt,
        teacher_prompt=112,
        response=rollout.max_response,
    )
    names = KINDS
    steps, states = {}, {}
    for name in names:
        steps[name], states[name] = make_step(name, graphdef, params, batch)

    def turn(name: str) -> Callable[[], Any]:
        def run() -> Any:
            states[name], *out = steps[name](states[name], batch)
            return states[name], out

        return run

    seconds = in_turns({name: turn(name) for name in names}, arguments.rounds)
    rows = [
        {
            "step": name,
            "seconds": statistics.median(seconds[name]),
            "gflop": steps[name].cost_analysis()["flops"] / 1e9,
            "temp_mb": steps[name].memory_analysis().temp_size_in_bytes / 1e6,
        }
        for name in names
    ]
    bare, sdpo, pgpo, budget = rows
    ratios = {
        f"{one['step']}/{other['step']}": {
            "time": ratio(seconds[one["step"]], seconds[other["step"]]),
            "flops": one["gflop"] / other["gflop"],
            "temp": one["temp_mb"] / other["temp_mb"],
        }
        for one, other in ((pgpo, sdpo), (pgpo, bare), (budget, pgpo))
    }
    # The same program against itself: what this machine calls no difference.
    twice = in_turns({"first": turn("sdpo"), "second": turn("sdpo")}, arguments.rounds)
    ratios["sdpo/sdpo"] = {"time": ratio(twice["first"], twice["second"])}
    record = report(
        "benchmarks.step_overhead",
        sys.argv[1:] if argv is None else argv,
        rows,
        arguments.json,
        ratios=ratios,
    )
    for name, values in ratios.items():
        time = values["time"]
        print(
            f"{name}: time {time['median']:.4f} ({time['low']:.4f} to {time['high']:.4f})"
            + "".join(
                f", {what} {values[what]:.6f}" for what in ("flops", "temp") if what in values
            )
        )
    return record


if __name__ == "__main__":
    main()
