from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports._svg import DASHES, INK, SERIES, Figure, dash_style, report_style, series

Numbers = Sequence[float | int] | np.ndarray


@dataclass(frozen=True)
class Curve:
    """One line of a figure; values that are not finite are gaps.

    Attributes:
        label: name in the legend.
        x, y: values at `x`.
        low, high: lower end of the band around the line, if any.
        colour: number of its colour; by default its position in the figure.
        dash: number of its line style; by default solid until the colours repeat.
    """

    label: str
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    colour: int | None = None
    dash: int | None = None

    def __post_init__(self) -> None:
        lengths = [len(v) for v in (self.x, self.y, self.low, self.high) if v is not None]
        if len(set(lengths)) != 1:
            raise PGPOValueError(f"the parts of a Curve must have one length, got {lengths}")
        if (self.low is None) != (self.high is None):
            raise PGPOValueError("a Curve needs both ends of a band or none, got one")

    def style(self, place: int) -> tuple[int, str]:
        """The colour number and `stroke-dasharray` of the curve at position `place` of a figure."""
        colour = place if self.colour is None else self.colour
        dash = colour // SERIES if self.dash is None else self.dash
        return colour % SERIES, DASHES[dash % len(DASHES)]


def line_figure(
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float | int, float | int] | None = None,
    reference: float | int | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """Draw curves with bands on one pair of axes; the page shows the legend.

    Args:
        curves: curves in the order in which they are drawn.
        x_label: name and unit of the horizontal axis.
        y_label: name and unit of the vertical axis.
        y_range: limits that do not follow the data; the axis reaches 2 % beyond them.
        reference: height of a thin horizontal line.
        log_x: whether the horizontal axis is logarithmic.
        log_y: whether the vertical axis is logarithmic.
    """
    with report_style():
        figure = Figure()
        axes = figure.add_subplot()
        for place, curve in enumerate(curves):
            number, dash = curve.style(place)
            colour, _ = series(number)
            y = np.asarray(curve.y, float)
            few = np.isfinite(y).sum() <= 25
            if curve.low is not None and curve.high is not None:
                axes.fill_between(
                    np.asarray(curve.x, float),
                    np.asarray(curve.low, float),
                    np.asarray(curve.high, float),
                    color=colour,
                    alpha=0.16,
                    linewidth=0,
                )
            axes.plot(
                np.asarray(curve.x, float),
                y,
                color=colour,
                linestyle=dash_style(dash),
                # The first is the widest, so that it shows beside one that covers it.
                linewidth=1.4 + 1.4 * (len(curves) - 1 - place) / max(1, len(curves) - 1),
                marker="o" if few else "",
                markersize=2.8,
            )
        if reference is not None:
            axes.axhline(reference, color=INK, linewidth=0.7, zorder=1)
        if log_x:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
        if log_y:
            axes.set_yscale("log")
        else:
            # An offset such as "+1.02" above the axis is easily overlooked.
            axes.ticklabel_format(axis="y", useOffset=False)
        if y_range is not None:
            # With room for the markers at its ends.
            room = 0.02 * (y_range[1] - y_range[0])
            axes.set_ylim(y_range[0] - room, y_range[1] + room)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if not any(np.isfinite(np.asarray(curve.y, float)).any() for curve in curves):
            axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center")
    return figure
