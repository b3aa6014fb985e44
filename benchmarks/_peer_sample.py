"""The sampler of `benchmarks.peers`: `sample` beside `generate` of transformers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from benchmarks import sampler
from benchmarks._peer_cell import Cell, Setting, Side
from benchmarks._peer_step import model_folder, random_model

ROWS = (1, 2, 4, 8, 16, 64)
VOCABULARY, PROMPT, NEW = 8192, 64, 128


def cells() -> list[Cell]:
    """One for each number of rows."""
    return [
        Cell(
            "sample",
            f"rows-{rows}",
            f"{rows} row{'s' * (rows > 1)}",
            once=25.0,
            each=1.0 + 0.06 * rows,
            ours=("sample",),
            measure=functools.partial(_measure, rows),
            made=(rows * NEW, "tokens"),
        )
        for rows in ROWS
    ]


def _measure(rows: int, setting: Setting) -> tuple[dict[str, Side], dict[str, Any]]:
    settings = {"vocab": VOCABULARY, "prompt": PROMPT, "new": NEW, "repeats": setting.rounds}
    flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    args = sampler.parse(flags)
    tokens = np.random.default_rng(0).integers(1, VOCABULARY - 8, (rows, PROMPT)).astype(np.int32)
    model = random_model(VOCABULARY)
    folder = model_folder(setting.folder, VOCABULARY)
    other = sampler.HuggingFace(setting.python, str(folder), args.dtype)
    try:
        if other.missing:
            raise RuntimeError(f"generate does not start: {other.missing}")
        times = sampler.calls_in_turns(model, args, tokens, other)
        about = other.about
    finally:
        other.close()
    sides: dict[str, Side] = {
        "sample": {"seconds": times["ours"]},
        "generate": {"seconds": times["theirs"]},
        "our products alone": {"seconds": times["products"]},
    }
    return sides, {"generate": about}
