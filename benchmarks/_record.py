"""What every benchmark shares: timing in turns, a table, and a JSON file that says where it ran."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from benchmarks._rotation import rotation

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """The flag by which every benchmark writes its figures."""
    parser.add_argument(
        "--json", type=Path, help="also write the figures, the machine and the command here"
    )


def in_turns(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run, `rounds` times, after one round that is not counted.

    The runs take turns and the order rotates, so that a busy moment of the machine hits all of
    them and none always follows the same neighbour. A ratio is best taken within a round.

    Args:
        runs: each returns what has to be waited for.
        rounds: timed calls of each.

    Returns:
        The seconds by name, in the order of the rounds.
    """
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn, name in rotation(names, rounds):
        start = time.perf_counter()
        jax.block_until_ready(runs[name]())
        if turn:
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Median of the ratios within a round, and its 95 % interval by order statistics.

    Args:
        above: seconds of one run, by round.
        below: seconds of the other, in the same rounds.

    Returns:
        `median`, `low` and `high`.
    """
    ratios = sorted(a / b for a, b in zip(above, below, strict=True))
    # The median's interval: ranks n/2 -+ 0.98 sqrt(n), from the binomial with p = 1/2.
    margin = 0.98 * len(ratios) ** 0.5
    low = max(int(len(ratios) / 2 - margin), 0)
    high = min(int(len(ratios) / 2 + margin), len(ratios) - 1)
    return {"median": statistics.median(ratios), "low": ratios[low], "high": ratios[high]}


def machine() -> dict[str, Any]:
    """Processor, devices and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.is_file() else [])
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": platform.platform(),
        "devices": [device.device_kind for device in jax.devices()],
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as an aligned table; a row may lack a column.

    >>> print(table([{"batch": 1, "seconds": 0.12345}, {"batch": 64}]))
    batch  seconds
        1   0.1235
       64
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))

    def cell(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)

    cells = [columns, *([cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def report(
    module: str,
    arguments: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    file: Path | None,
    **more: Any,
) -> dict[str, Any]:
    """Prints the table and writes the record.

    Args:
        module: name of the benchmark, `benchmarks.NAME`.
        arguments: what the command line held after it.
        rows: the figures.
        file: JSON file, or None.
        more: further figures for the record.

    Returns:
        The record: command, machine, date, rows and `more`.
    """
    record = {
        "command": shlex.join(["python", "-m", module, *arguments]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "rows": [dict(row) for row in rows],
        **more,
    }
    print(table(rows), flush=True)
    if file is not None:
        file.write_text(json.dumps(record, indent=2) + "\n")
    return record
