"""What the experiments train, by preset."""

import dataclasses
from typing import Any, Literal, TypeVar

from experiments.sweeps._controlled_config import ControlledConfig
from pgpo_jax.training import PRESETS

Preset = Literal["smoke", "cpu", "gpu", "paper"]
Config = TypeVar("Config")


def changed(config: Config, **changes: Any) -> Config:
    """`dataclasses.replace` that reaches into sections: `loss={"k": 3}`."""
    values = {
        name: changed(getattr(config, name), **value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return dataclasses.replace(config, **values)  # pyright: ignore[reportArgumentType]


_NO_TEXTS = {"rows": 0, "evaluation": 0}
# The shipped model with widths that fit its questions (at most 53 tokens; 63 with a solution).
_CPU = changed(
    ControlledConfig.of(PRESETS["tiny"]),
    steps=24,
    keep_checkpoints=0,
    trackers=(),
    texts=_NO_TEXTS,
    rollout={
        "max_prompt": 56,
        "max_response": 12,
        "smallest_bucket": 72,
        "row_buckets": 1,
        "share_prompts": True,
    },
    evaluation={"every": 4, "questions": 128, "samples": 2, "batch": 64},
)
TRAINING: dict[str, ControlledConfig] = {
    "smoke": changed(
        _CPU,
        steps=2,
        rollout={"questions": 2, "samples": 4},
        evaluation={"every": 1, "questions": 8, "samples": 1, "batch": 8},
    ),
    "cpu": _CPU,
    # One GPU of 80 GB; written for it, not run.
    "gpu": changed(
        ControlledConfig(),
        model="Qwen/Qwen3-0.6B",
        task="data/sciknoweval/physics/train.json",
        steps=60,
        keep_checkpoints=0,
        trackers=(),
        texts=_NO_TEXTS,
        rollout={"questions": 16, "max_prompt": 1024, "max_response": 1024},
        teacher={"max_prompt": 3072},
        evaluation={"every": 10, "samples": 4},
    ),
    "paper": ControlledConfig.of(PRESETS["paper-qwen3-8b"]),
}
"""Base configurations. `smoke` ends in seconds and says nothing; `cpu` is what was run."""
