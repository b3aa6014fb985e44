"""The tables of `benchmarks.peers`, made from the record of each cell."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

HEADINGS = {
    "step": "a training step",
    "sample": "`sample` and `generate`",
    "ensemble": "an ensemble of paths",
    "start": "the command line",
}


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest and largest.

    >>> spread([3.0, 1.0, 2.0])
    (2.0, 1.0, 3.0)
    """
    return statistics.median(values), min(values), max(values)


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest and largest of the ratios within a round.

    >>> ratios([2.0, 9.0, 4.0], [1.0, 3.0, 1.0])
    (3.0, 2.0, 4.0)
    """
    return spread([a / b for a, b in zip(above, below, strict=True)])


def rows_of(cell: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row of the table for each side of a cell.

    A ratio is of seconds of that side to ours: above 1, ours is faster. A ratio of memory is of
    ours to that side: below 1, ours has less.

    Args:
        cell: record as `record_of` makes it.

    Returns:
        Text by column.
    """
    rows = []
    for name, side in cell["sides"].items():
        row = {"what": cell["title"], "side": name, "s (range)": _range(spread(side["seconds"]))}
        if cell["made"]:
            made, unit = cell["made"]
            row[f"{unit}/s"] = f"{made / statistics.median(side['seconds']):.0f}"
        if "peak_mb" in side:
            row["resident MB"] = f"{side['peak_mb']:.0f}"
        for ours in cell["ours"]:
            base = cell["sides"][ours]
            if name != ours:
                row[f"time / {ours} (range)"] = _range(ratios(side["seconds"], base["seconds"]))
            if name not in cell["ours"] and "peak_mb" in side:
                row[f"memory of {ours} / its"] = f"{base['peak_mb'] / side['peak_mb']:.2f}"
        rows.append(row)
    return rows


def markdown(record: Mapping[str, Any]) -> str:
    """One table for each part, with how and when it was measured.

    Args:
        record: `machine` and `cells`, as `benchmarks.peers` writes it.
    """
    texts = []
    for part, heading in HEADINGS.items():
        cells = [cell for cell in record["cells"] if cell["part"] == part]
        if cells:
            rows = [row for cell in cells for row in rows_of(cell)]
            texts.append(f"**{heading}**\n\n{_table(rows)}\n\n{_source(record, cells)}")
    return "\n\n".join(texts)


def _source(record: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> str:
    dates, rounds = {cell["date"] for cell in cells}, {cell["rounds"] for cell in cells}
    loads = [load for cell in cells for load in cell["load"]]
    return (
        f"{record['machine']['processor']}, {record['machine']['cores']} cores, "
        f"{' and '.join(sorted(dates))}, rounds: {', '.join(map(str, sorted(rounds)))}, "
        f"load {min(loads):.1f} to {max(loads):.1f}."
    )


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([row.get(c, "") for c in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _range(values: tuple[float, float, float]) -> str:
    middle, low, high = (f"{value:.3g}" for value in values)
    return f"{middle} ({low} to {high})"
