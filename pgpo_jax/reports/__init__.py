"""Reads run folders and writes self-contained HTML pages with tables, curves and texts."""

import importlib
from typing import TYPE_CHECKING, Any

from pgpo_jax._printable import printable as printable
from pgpo_jax.reports._cells import Cell as Cell
from pgpo_jax.reports._interval import (
    Interval as Interval,
    difference_interval as difference_interval,
    mean_interval as mean_interval,
)
from pgpo_jax.reports._kept_row import KeptText as KeptText
from pgpo_jax.reports._kept_texts import (
    KeptTexts as KeptTexts,
    read_questions as read_questions,
    read_texts as read_texts,
)
from pgpo_jax.reports._run_record import RunRecord as RunRecord, read_run as read_run

if TYPE_CHECKING:
    from pgpo_jax.reports._curves import Curve as Curve, line_figure as line_figure
    from pgpo_jax.reports._intervals import interval_figure as interval_figure
    from pgpo_jax.reports._page import Page as Page
    from pgpo_jax.reports._run_report import (
        versions as versions,
        write_run_report as write_run_report,
    )
    from pgpo_jax.reports._svg import Figure as Figure, inline_svg as inline_svg, series as series

# These need matplotlib, which is imported on their first use. So a command that only reads a run
# starts at once.
_WITH_FIGURES = {
    "Curve": "_curves",
    "Figure": "_svg",
    "Page": "_page",
    "inline_svg": "_svg",
    "interval_figure": "_intervals",
    "line_figure": "_curves",
    "series": "_svg",
    "versions": "_run_report",
    "write_run_report": "_run_report",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_FIGURES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WITH_FIGURES[name]}"), name)
