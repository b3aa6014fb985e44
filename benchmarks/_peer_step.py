"""The training step of `benchmarks.peers`: ours beside TRL, as written and compiled."""

from __future__ import annotations

import functools
import json
import math
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks._peer_cell import Cell, Setting, Side, in_processes
from pgpo_jax.models import Qwen3, Qwen3Config, save_pretrained

VOCABULARIES = {"8k": 8192, "32k": 32768}
SUPPORTS = {"top100": ("topk_tail", "100 most likely and tail"), "full": ("full", "all tokens")}
SHAPE = {"rows": 16, "questions": 2, "prompt": 64, "teacher_prompt": 128, "response": 128}
OURS = ("pgpo", "pgpo, prompts shared")
# Sums of float32 in another order.
_SAME_LOSS = 1e-4
# Seconds once (starts and compilations) and in a round, of all sides.
_ESTIMATES = {"8k": (150.0, 8.0), "32k": (210.0, 25.0)}


def cells() -> list[Cell]:
    """Two vocabularies, with the loss on the most likely tokens and on all."""
    return [
        Cell(
            "step",
            f"{size}-{support}",
            f"vocabulary {size}, {words}",
            *_ESTIMATES[size],
            ours=OURS,
            measure=functools.partial(_measure, VOCABULARIES[size], kind),
        )
        for size in VOCABULARIES
        for support, (kind, words) in SUPPORTS.items()
    ]


def model_folder(parent: Path, vocabulary: int) -> Path:
    """Random weights of 4 layers and width 256, written once in a folder of their own."""
    folder = parent / f"model-{vocabulary}"
    if not folder.exists():
        save_pretrained(random_model(vocabulary), folder)
    return folder


def random_model(vocabulary: int) -> Qwen3:
    """Random float32 weights of 4 layers and width 256."""
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        tie_word_embeddings=True,
    )
    return nnx.jit(lambda: Qwen3(config, rngs=nnx.Rngs(0), dtype=jnp.dtype("float32")))()


def commands(folder: Path, support: str, python: str) -> dict[str, list[str]]:
    """What starts each side.

    Args:
        folder: of the model.
        support: of `LossConfig`.
        python: interpreter with torch and TRL.
    """
    ours = [sys.executable, "-m", "benchmarks._model_steps", str(folder)]
    theirs = [python, str(Path(__file__).with_name("_trl_steps.py")), str(folder)]
    shape = SHAPE | {"support": support}
    return {
        OURS[0]: [*ours, json.dumps(shape)],
        OURS[1]: [*ours, json.dumps(shape | {"share_prompts": True})],
        "TRL": [*theirs, json.dumps(shape), "eager"],
        "TRL, torch.compile": [*theirs, json.dumps(shape), "compiled"],
    }


def check_same_loss(sides: dict[str, Side]) -> None:
    """Refuses sides that do not do the same work.

    Raises:
        RuntimeError: the losses of the first step differ by more than rounding.
    """
    losses = {name: side["first_loss"] for name, side in sides.items()}
    first = next(iter(losses.values()))
    if not all(math.isclose(loss, first, rel_tol=_SAME_LOSS) for loss in losses.values()):
        raise RuntimeError(
            f"the losses of the first step must agree to {_SAME_LOSS:g} of their size, got {losses}"
        )


def _measure(
    vocabulary: int, support: str, setting: Setting
) -> tuple[dict[str, Side], dict[str, Any]]:
    folder = model_folder(setting.folder, vocabulary)
    # The parent holds no arrays while the sides are timed.
    jax.clear_caches()
    sides, about = in_processes(commands(folder, support, setting.python), setting.rounds)
    check_same_loss(sides)
    return sides, about
