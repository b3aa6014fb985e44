"""The figures of the weak-order command."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sde.order import OrderReport
from sde.viscous import MassLimitReport

# Where each format keeps a description; without a date, the same run writes the same file.
_METADATA = {
    "png": lambda beside: {"Description": beside},
    "svg": lambda beside: {"Description": beside, "Date": None},
    "pdf": lambda beside: {"Subject": beside, "CreationDate": None},
}
_COLOURS = ("#1b6ca8", "#c8553d", "#3c8d5a", "#7a5195")


class Canvas:
    """Where figures go: a folder, the formats, and the line beside each."""

    def __init__(self, folder: Path, formats: Sequence[str], beside: str):
        self._folder, self._formats, self._beside = folder, formats, beside

    def save(self, figure: Figure, name: str) -> None:
        """Writes NAME.png, NAME.svg, ...; the line is in the picture and in its metadata."""
        figure.tight_layout(rect=(0.0, 0.02, 1.0, 1.0))
        figure.text(0.99, 0.004, self._beside, ha="right", va="bottom", fontsize=5.5, color="0.35")
        with mpl.rc_context({"svg.hashsalt": name}):
            for kind in self._formats:
                metadata = _METADATA[kind](self._beside)
                figure.savefig(self._folder / f"{name}.{kind}", metadata=metadata)


def plot_statement(title: str, reports: dict[str, OrderReport], canvas: Canvas) -> None:
    """Errors with intervals, the fitted line and the floor, one panel per problem."""
    figure = Figure(figsize=(3.6 * len(reports) + 0.4, 3.2), dpi=90)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(reports), squeeze=False)[0]
    for axis, (name, report) in zip(axes, reports.items(), strict=True):
        for colour, observable in zip(_COLOURS, report.errors, strict=False):
            _draw(axis, report, observable, colour)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel("step size eta")
        axis.set_title(f"{name}: {report.verdict}", fontsize=9)
        axis.grid(True, which="major", alpha=0.25)
        axis.legend(fontsize=7)
    axes[0].set_ylabel("weak error")
    figure.suptitle(title, fontsize=10)
    canvas.save(figure, title)


def _draw(axis, report: OrderReport, observable: str, colour: str) -> None:
    errors = report.errors[observable] if report.sup_errors is None else None
    sizes = np.abs(errors) if errors is not None else report.sup_errors[observable]  # type: ignore[index]
    slope, width = report.slopes[observable]
    label = observable if math.isnan(slope) else f"{observable}: {slope:.2f}±{width:.2f}"
    bars = 1.96 * report.standard_errors[observable]
    axis.errorbar(
        report.etas,
        sizes,
        yerr=np.minimum(bars, 0.999 * sizes),
        fmt="o",
        ms=3.5,
        color=colour,
        label=label,
        capsize=2,
        lw=1,
    )
    if not math.isnan(slope):
        logs = np.log2(np.maximum(sizes, 1e-300))
        line = 2 ** (np.mean(logs) + slope * (np.log2(report.etas) - np.mean(np.log2(report.etas))))
        axis.plot(report.etas, line, color=colour, lw=0.9)
    floor = report.floors[observable]
    if floor is not None and abs(floor) > 1e-7:
        axis.axhline(abs(floor), color=colour, lw=0.8, ls=":")


def plot_variance(rows: dict[str, dict[str, OrderReport]], canvas: Canvas) -> None:
    """Var/eta of the equation over that of the chain: what order 1 cannot see."""
    points = [
        (f"{row}, {name}", r.variance_ratio, r.variance_ratio_error)
        for row, reports in rows.items()
        for name, r in reports.items()
        if math.isfinite(r.variance_ratio)
    ]
    figure = Figure(figsize=(7, 0.9 + 0.17 * len(points)), dpi=90)
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    places = np.arange(len(points))[::-1]
    values = np.clip([p[1] for p in points], 1e-3, 1e3)
    axis.errorbar(
        values, places, xerr=[1.96 * p[2] for p in points], fmt="o", ms=3, color="#1b6ca8"
    )
    axis.axvline(1.0, color="black", lw=0.8)
    axis.set_xscale("log")
    axis.set_yticks(places, [p[0] for p in points], fontsize=6)
    axis.set_xlabel("(Var/eta of the equation) / (Var/eta of the chain), finest eta")
    canvas.save(figure, "variance")


def plot_mass_limit(report: MassLimitReport, canvas: Canvas) -> None:
    """Distance of the particle from the two candidate equations, against its mass."""
    figure = Figure(figsize=(3.6 * len(report.values) + 0.4, 3.2), dpi=90)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(report.values), squeeze=False)[0]
    for axis, name in zip(axes, report.values, strict=True):
        bars = 1.96 * report.standard_errors[name]
        sides = (
            ("with the noise-induced drift", report.limits[name], "o", report.converges[name]),
            ("the paper's form, without", report.without[name], "s", report.paper[name]),
        )
        for colour, (label, limit, marker, finding) in zip(_COLOURS, sides, strict=False):
            sizes = np.abs(report.values[name] - limit)
            fit = finding.slope
            slope = "" if fit is None else f": {fit.slope:.2f}±{fit.half_width:.2f}"
            axis.errorbar(
                report.masses,
                sizes,
                yerr=np.minimum(bars, 0.999 * sizes),
                fmt=marker,
                ms=3.5,
                color=colour,
                label=label + slope,
                capsize=2,
                lw=1,
            )
        axis.axhline(
            abs(report.limits[name] - report.without[name]), color=_COLOURS[1], lw=0.8, ls=":"
        )
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel("mass")
        axis.set_title(name, fontsize=9)
        axis.grid(True, which="major", alpha=0.25)
        axis.legend(fontsize=6)
    axes[0].set_ylabel("|E g(particle) - E g(overdamped)|")
    canvas.save(figure, "viscous")
