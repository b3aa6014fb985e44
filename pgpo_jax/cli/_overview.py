"""The table of results of runs for the terminal."""

from collections.abc import Mapping
from pathlib import Path

from pgpo_jax._printable import printable_line
from pgpo_jax.cli._terminal import align
from pgpo_jax.reports import Interval, read_run
from pgpo_jax.reports._run_summary import summary


def overview(runs: Mapping[str, Path]) -> str:
    """The table of results of some runs, for the terminal."""
    columns, rows = summary([read_run(folder, name) for name, folder in runs.items()])
    return align([columns, *[[_text(cell) for cell in row] for row in rows]])


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, Interval):
        return cell.text(2)
    return f"{cell:.3f}" if isinstance(cell, float) else printable_line(str(cell))
