from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports._interval import Interval
from pgpo_jax.reports._svg import INK, Figure, report_style, series


def interval_figure(
    rows: Sequence[tuple[str, Interval]],
    *,
    x_label: str,
    reference: float | int | None = 0.0,
    margin: float | int | None = None,
) -> Figure:
    """Draw one interval per line, the first at the top, with its name to the left.

    Args:
        rows: name and interval of each line. The page should show the numbers as well.
        x_label: with units.
        reference: place of a vertical line; `None` for none.
        margin: half width of a shaded region around `reference`, for differences that do not
            matter.

    Raises:
        ValueError: if there are no rows, or a margin without a reference.
    """
    if not rows:
        raise PGPOValueError("a figure of intervals needs at least one, got none")
    if margin is not None and reference is None:
        raise PGPOValueError("a margin lies about a reference, got none")
    with report_style():
        figure = Figure(figsize=(4.6, 0.7 + 0.24 * len(rows)))
        axes = figure.add_subplot()
        colour, _ = series(0)
        if reference is not None:
            if margin is not None:
                shade, _ = series(7)
                axes.axvspan(reference - margin, reference + margin, color=shade, alpha=0.13, lw=0)
            axes.axvline(reference, color=INK, linewidth=0.7)
        for place, (_, interval) in enumerate(rows):
            axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=1.5)
            axes.plot([interval.value], [place], color=colour, marker="o", markersize=3.4)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.set_xlabel(x_label)
    return figure
