from collections.abc import Mapping, Sequence
from pathlib import Path

from pgpo_jax.reports import Interval, read_run
from pgpo_jax.reports._run_summary import summary


def overview(runs: Mapping[str, Path]) -> str:
    """The table of results of some runs, for the terminal."""
    columns, rows = summary([read_run(folder, name) for name, folder in runs.items()])
    return align([columns, *[[_text(cell) for cell in row] for row in rows]])


def align(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, the others to the right, a rule under the head.

    >>> print(align([["run", "steps"], ["a", "40"]]))
    run  steps
    ---  -----
    a       40
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, Interval):
        return cell.text(2)
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
