"""Reads and runs the cells of an example notebook."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"


def code_cells(file: Path) -> list[str]:
    """The code of a notebook, a text for each cell."""
    cells = json.loads(file.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cells(file: Path, cells: Sequence[str], space: dict[str, Any] | None = None) -> Any:
    """Runs some cells one after the other, and returns the names that they define."""
    space = {"__name__": file.stem} if space is None else space
    for cell in cells:
        exec(compile(cell, file.name, "exec"), space)
    return space
