"""Self-contained HTML pages: tables with intervals, curves with bands, configuration, command."""

from pgpo_jax.reports._curves import Curve as Curve, line_figure as line_figure
from pgpo_jax.reports._interval import (
    Interval as Interval,
    difference_interval as difference_interval,
    mean_interval as mean_interval,
)
from pgpo_jax.reports._intervals import interval_figure as interval_figure
from pgpo_jax.reports._page import Cell as Cell, Page as Page
from pgpo_jax.reports._run_record import RunRecord as RunRecord, read_run as read_run
from pgpo_jax.reports._run_report import (
    versions as versions,
    write_run_report as write_run_report,
)
from pgpo_jax.reports._svg import Figure as Figure, inline_svg as inline_svg, series as series
