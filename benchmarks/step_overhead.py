"""What PGPO adds to a training step: wall time, floating-point operations and temporary memory.

    python -m benchmarks.step_overhead --output step_overhead.json

Three steps are compiled on the shapes of the `tiny` preset and timed in turns, in one process:
`bare` is SDPO as one would write it without this project (no multiplier, no signal, only the loss
returned), `sdpo` is ours with alpha = 0, `pgpo` is ours.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx

from pgpo_jax.models import Qwen3, Qwen3Config
from pgpo_jax.training import (
    PRESETS,
    Experience,
    TrainConfig,
    TrainState,
    init_state,
    make_optimizer,
    make_train_step,
)


@dataclass(frozen=True)
class Arguments:
    """Times PGPO's step against SDPO's."""

    rounds: int = 25
    """Timed steps of each kind, interleaved."""
    output: Path | None = None
    """JSON file for the numbers."""


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


def experience(config: TrainConfig, teacher_prompt: int = 112) -> Experience:
    """A full batch of random tokens."""
    rng = np.random.default_rng(0)
    rows, response = config.rollout.rows, config.rollout.max_response

    def tokens(width: int) -> jax.Array:
        return jnp.asarray(rng.integers(0, SHAPE.vocab_size, (rows, width)), jnp.int32)

    return Experience(
        tokens(config.rollout.max_prompt),
        jnp.ones((rows, config.rollout.max_prompt), bool),
        tokens(teacher_prompt),
        jnp.ones((rows, teacher_prompt), bool),
        tokens(response),
        jnp.ones((rows, response), bool),
        jnp.full((rows, response), -5.0, jnp.float32),
        jnp.ones(rows, bool),
    )


def make_step(
    name: str, graphdef: Any, params: Any, batch: Experience
) -> tuple[Callable[..., Any], TrainState]:
    """The compiled step of one kind, and its first state."""
    base = PRESETS["tiny"]
    config = replace(base, method="pgpo" if name == "pgpo" else "sdpo")
    optimizer = make_optimizer(config)
    if name == "bare":
        settings = config.optimizer
        rate = optax.linear_schedule(0.0, settings.learning_rate, settings.warmup_steps)
        optimizer = optax.with_extra_args_support(
            optax.chain(
                optax.clip_by_global_norm(settings.clip_norm),
                optax.adamw(rate, weight_decay=settings.weight_decay),
            )
        )
    step = make_train_step(graphdef, optimizer, config)
    if name == "bare":
        whole = step

        def only_loss(state: TrainState, batch: Experience) -> tuple[TrainState, jax.Array]:
            state, metrics = whole(state, batch)
            return state, metrics["loss"]

        step = jax.jit(only_loss, donate_argnums=0)
    state = init_state(jax.tree.map(jnp.copy, params), optimizer, config.teacher)
    jitted: Any = step
    return jitted.lower(state, batch).compile(), state


def main(argv: list[str] | None = None) -> None:
    arguments = tyro.cli(Arguments, args=argv)
    graphdef, params = nnx.split(Qwen3(SHAPE, rngs=nnx.Rngs(0)), nnx.Param)
    batch = experience(PRESETS["tiny"])
    names = ("bare", "sdpo", "pgpo")
    steps, states = {}, {}
    for name in names:
        steps[name], states[name] = make_step(name, graphdef, params, batch)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(arguments.rounds + 2):
        # The order rotates, so that no kind always follows the same neighbour.
        for name in names[turn % 3 :] + names[: turn % 3]:
            start = time.perf_counter()
            states[name], out = steps[name](states[name], batch)
            jax.block_until_ready((states[name], out))
            if turn >= 2:
                seconds[name].append(time.perf_counter() - start)
    rows = {
        name: {
            "seconds": statistics.median(seconds[name]),
            "flops": steps[name].cost_analysis()["flops"],
            "temp_bytes": steps[name].memory_analysis().temp_size_in_bytes,
        }
        for name in names
    }
    print(f"{'step':6}{'s (median)':>12}{'GFLOP':>10}{'temp MB':>10}")
    for name, row in rows.items():
        gflop, megabytes = row["flops"] / 1e9, row["temp_bytes"] / 1e6
        print(f"{name:6}{row['seconds']:12.4f}{gflop:10.3f}{megabytes:10.1f}")
    ratios = {
        f"pgpo/{other}": {
            # The median of the ratios within a round: drift of the machine cancels.
            "time": statistics.median(
                p / o for p, o in zip(seconds["pgpo"], seconds[other], strict=True)
            ),
            "flops": rows["pgpo"]["flops"] / rows[other]["flops"],
            "temp": rows["pgpo"]["temp_bytes"] / rows[other]["temp_bytes"],
        }
        for other in ("sdpo", "bare")
    }
    for name, ratio in ratios.items():
        print(name + ": " + ", ".join(f"{what} {value:.6f}" for what, value in ratio.items()))
    if arguments.output is not None:
        record = {
            "steps": rows,
            "ratios": ratios,
            "rounds": arguments.rounds,
            "machine": platform.platform(),
            "device": str(jax.devices()[0]),
            "jax": jax.__version__,
        }
        arguments.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
