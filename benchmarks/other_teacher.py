"""The cost of learning from another model: steps of `opd` and `reopold` and of SDPO, in turns.

    python -m benchmarks.other_teacher --json other_teacher.json

All steps are those of the `tiny` preset on one batch of random tokens. The other model has the
student's shape, and the teacher's prompts are as long as the student's. So the passes over the
layers are the same and only the losses differ. `sdpo` has the initial model as its teacher.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks._batch import random_batch
from benchmarks._config_step import first_state, jitted_step
from benchmarks._record import add_json_flag, in_turns, ratio, report
from benchmarks.step_overhead import SHAPE
from pgpo_jax.models import Decoder
from pgpo_jax.training import PRESETS, Experience, LossConfig, TeacherConfig, TrainConfig

_OTHER = TeacherConfig(kind="external", model="another")
_SAMPLED: dict[str, Any] = {"form": "advantage", "support": "sampled", "teacher_weight": 1.0}
_REDUCED: dict[str, Any] = {"reduction": "token_mean", **_SAMPLED}
_KINDS: dict[str, tuple[str, TeacherConfig, dict[str, Any]]] = {
    "sdpo": ("sdpo", TeacherConfig(kind="frozen"), {"support": "topk_tail", "k": 16}),
    "opd sampled": ("opd", _OTHER, _SAMPLED),
    "opd top-k rewards": ("opd", _OTHER, _SAMPLED | {"support": "topk_raw", "k": 16}),
    "opd union": ("opd", _OTHER, {"support": "topk_union", "k": 16, "teacher_weight": 1.0}),
    "reopold first phase": ("reopold", _OTHER, _REDUCED),
    "reopold second phase": ("reopold", _OTHER, _REDUCED),
}


def settings_of(name: str, micro_batch: int | None) -> TrainConfig:
    """The configuration of one kind of step.

    Args:
        name: of `_KINDS`.
        micro_batch: rows at a time.

    Returns:
        The configuration.
    """
    tiny = PRESETS["tiny"]
    objective, teacher, loss = _KINDS[name]
    return replace(
        tiny,
        objective=objective,
        teacher=teacher,
        loss=replace(LossConfig(chunk=tiny.loss.chunk), **loss),
        optimizer=replace(tiny.optimizer, micro_batch=micro_batch),
    )


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, help="timed steps of each kind")
    parser.add_argument("--micro-batch", type=int, default=None, help="rows at a time")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    graphdef, params = nnx.split(Decoder(SHAPE, rngs=nnx.Rngs(0)), nnx.Param)
    other, weights = nnx.split(Decoder(SHAPE, rngs=nnx.Rngs(1)), nnx.Param)
    rollout = PRESETS["tiny"].rollout
    plain = random_batch(
        SHAPE.vocab_size,
        rows=rollout.rows,
        prompt=rollout.max_prompt,
        teacher_prompt=rollout.max_prompt,
        response=rollout.max_response,
    )
    steps, states, batches = {}, {}, {}
    for name in _KINDS:
        config = settings_of(name, arguments.micro_batch)
        external = config.teacher.kind == "external"
        states[name] = first_state(
            jax.tree.map(jnp.copy, params),
            config,
            external=jax.tree.map(jnp.copy, weights) if external else None,
        )
        batches[name] = _of_phase(plain, name)
        step = jitted_step(graphdef, config, teacher_graphdef=other if external else None)
        steps[name] = step.lower(states[name], batches[name]).compile()

    def turn(name: str) -> Callable[[], Any]:
        def run() -> Any:
            states[name], *out = steps[name](states[name], batches[name])
            return states[name], out

        return run

    seconds = in_turns({name: turn(name) for name in _KINDS}, arguments.rounds)
    rows = [
        {
            "step": name,
            "seconds": statistics.median(seconds[name]),
            "gflop": steps[name].cost_analysis()["flops"] / 1e9,
            "temp_mb": steps[name].memory_analysis().temp_size_in_bytes / 1e6,
        }
        for name in _KINDS
    ]
    ratios = {
        f"{name}/sdpo": {"time": ratio(seconds[name], seconds["sdpo"])}
        for name in _KINDS
        if name != "sdpo"
    }
    record = report(
        "benchmarks.other_teacher",
        sys.argv[1:] if argv is None else argv,
        rows,
        arguments.json,
        ratios=ratios,
    )
    for name, values in ratios.items():
        time = values["time"]
        print(f"{name}: time {time['median']:.4f} ({time['low']:.4f} to {time['high']:.4f})")
    return record


def _of_phase(batch: Experience, name: str) -> Experience:
    if not name.startswith("reopold"):
        return batch
    second = jnp.full(batch.score.shape, "second" in name, jnp.float32)
    return batch._replace(columns={"by_entropy": second})


if __name__ == "__main__":
    main()
