"""The tables of the weak-order command, in Markdown."""

import math
from collections.abc import Sequence

import numpy as np

from sde.order import OrderReport, SlopeFit


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, columns as wide as what they hold.

    >>> print("\\n".join(table(["run", "slope"], [["a", "1.00"]])))
    | run | slope |
    |-----|-------|
    | a   | 1.00  |
    """
    everything = [list(columns), *map(list, rows)]
    widths = [max(len(row[i]) for row in everything) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in everything
    ]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]


def observable_cells(
    reports: dict[str, OrderReport],
) -> tuple[tuple[str, ...], list[list[str]]]:
    """What was measured of every test function, problem by problem: the columns and the rows."""
    rows = []
    for problem, report in reports.items():
        for name, finding in report.findings.items():
            floor = report.floors[name]
            c0 = math.nan if finding.polynomial is None else finding.polynomial.coefficient(0)[0]
            rows.append(
                [
                    problem,
                    name,
                    slope_text(finding.slope),
                    slope_text(finding.curved_slope),
                    f"{c0:.6f}",
                    "none" if floor is None else f"{floor:.6f}",
                    finding.verdict,
                    f"{report.variance_ratio:.4f}",
                ]
            )
    columns = ("problem", "test function", "slope", "curved", "c0", "floor", "verdict", "Var/eta")
    return columns, rows


def step_size_table(
    reports: dict[str, OrderReport], z: dict[str, dict[str, np.ndarray]]
) -> list[str]:
    """Monte Carlo: rung by rung, z against the exact engine and the gain of the controls."""
    rows = []
    for problem, report in reports.items():
        assert report.gains is not None
        for name, gains in report.gains.items():
            for k, eta in enumerate(report.etas):
                known = f"{z[problem][name][k]:.2f}" if problem in z else "none"
                rows.append([problem, name, f"2^{math.log2(eta):g}", known, f"{gains[k]:.3g}"])
    return table(("problem", "test function", "eta", "z", "gain of the controls"), rows)


def slope_text(slope: SlopeFit | None) -> str:
    """A slope with its 95% half width."""
    return "none" if slope is None else f"{slope.slope:.2f} ± {slope.half_width:.2f}"
