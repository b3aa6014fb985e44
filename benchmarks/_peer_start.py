"""The command line of `benchmarks.peers`: seconds to the help and to a first token, as processes.

The model is the shipped one. Each run is a process of its own and is timed from its start to its
end. `pgpo` keeps its programs in a folder that the first, uncounted run fills.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._peer_cell import Cell, Setting, Side, side_of
from benchmarks._rotation import rotation

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "pgpo_jax" / "assets" / "tiny"
_PROMPT = "What is 2 + 3?"
_PGPO = [sys.executable, "-m", "pgpo_jax"]
_SAMPLE = ["sample", "--prompt", _PROMPT, "--samples", "1", "--max-response", "1"]


def cells() -> list[Cell]:
    """The help, and the first token of the shipped model."""
    return [
        Cell("start", "help", "pgpo --help", 1.0, 0.5, ("pgpo --help",), _measure_help),
        Cell("start", "token", "first token", 25.0, 25.0, ("pgpo sample",), _measure_token),
    ]


def help_commands() -> dict[str, list[str]]:
    """The help, and an interpreter that does nothing."""
    return {"pgpo --help": [*_PGPO, "--help"], "python -c pass": [sys.executable, "-c", "pass"]}


def token_commands(python: str) -> dict[str, list[str]]:
    """A first token by `pgpo sample`, with and without kept programs, and by `generate`."""
    script = str(Path(__file__).with_name("_first_token.py"))
    return {
        "pgpo sample": [*_PGPO, *_SAMPLE],
        "pgpo sample, nothing kept": [*_PGPO, "--no-compilation-cache", *_SAMPLE],
        "generate": [python, script, str(MODEL), _PROMPT],
    }


def runs_in_turns(
    commands: Mapping[str, Sequence[str]], rounds: int, **more: str
) -> dict[str, Side]:
    """Seconds of whole processes, in turns; the order rotates.

    Args:
        commands: what each side runs.
        rounds: runs of each that count, after one that does not.
        more: variables of their environment.

    Raises:
        RuntimeError: a process that fails.
    """
    names = list(commands)
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _, name in rotation(names, rounds):
        start = time.perf_counter()
        done = subprocess.run(
            commands[name], cwd=ROOT, env=os.environ | more, capture_output=True, text=True
        )
        answers[name].append({"seconds": time.perf_counter() - start})
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            raise RuntimeError(f"{name} ended with {done.returncode}: {' '.join(last)}")
    return {name: side_of(found) for name, found in answers.items()}


def _measure_help(setting: Setting) -> tuple[dict[str, Side], dict[str, Any]]:
    return runs_in_turns(help_commands(), setting.rounds), {}


def _measure_token(setting: Setting) -> tuple[dict[str, Side], dict[str, Any]]:
    cache = str(setting.folder / "cache")
    return runs_in_turns(token_commands(setting.python), setting.rounds, XDG_CACHE_HOME=cache), {}
