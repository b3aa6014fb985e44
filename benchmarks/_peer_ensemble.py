"""The ensemble of `benchmarks.peers`: Euler paths by diffrax, `lax.scan`, NumPy and torchsde.

The equation is that of `benchmarks.sde_simulation`, in float64: dX = -X dt + 0.3 sqrt(1 + X^2) dW.
One of our sides draws its normals in float32.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks._peer_cell import Cell, Setting, Side, in_processes

PATHS, STEPS = 100_000, 1_000
_OURS = ("diffrax", "diffrax, float32 normals", "lax.scan", "NumPy")
# m = E X^2 obeys m' = -1.91 m + 0.09.
_SECOND_MOMENT, _TOLERANCE = 0.1882, 0.01


def cells() -> list[Cell]:
    """One cell: 100,000 paths of 1000 steps."""
    return [
        Cell(
            "ensemble",
            "euler",
            f"Euler, {PATHS} paths, {STEPS} steps",
            once=40.0,
            each=10.0,
            ours=("diffrax", "diffrax, float32 normals"),
            measure=_measure,
        )
    ]


def commands(python: str) -> dict[str, list[str]]:
    """What starts each side."""
    size = [str(PATHS), str(STEPS)]
    ours = [sys.executable, "-m", "benchmarks._ensemble_on_request"]
    return {name: [*ours, name, *size] for name in _OURS} | {
        "torchsde": [python, str(Path(__file__).with_name("_torch_ensemble.py")), *size]
    }


def check_same_equation(sides: dict[str, Side]) -> None:
    """Refuses sides that integrate another equation.

    Raises:
        RuntimeError: a second moment that is not the equation's.
    """
    found = {name: side["first_loss"] for name, side in sides.items()}
    if not all(abs(value - _SECOND_MOMENT) < _TOLERANCE for value in found.values()):
        raise RuntimeError(
            f"E X^2 at the end must be {_SECOND_MOMENT} to within {_TOLERANCE}, got {found}"
        )


def _measure(setting: Setting) -> tuple[dict[str, Side], dict[str, Any]]:
    sides, about = in_processes(commands(setting.python), setting.rounds)
    check_same_equation(sides)
    return sides, about
