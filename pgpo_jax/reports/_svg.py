import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Figure

from pgpo_jax.errors import PGPORuntimeError

SERIES = 8
"""Distinct colours; further series repeat them with another dash."""
DASHES = ("", "5 2.5", "1.5 2", "7 2 1.5 2")

# Colours that nothing else uses represent CSS variables, so that one figure serves the light and
# the dark scheme.
INK, _GRID = "#0a0b0c", "#0a0b0d"
_SERIES_HEX = [f"#0b0c{i:02x}" for i in range(SERIES)]
_VARIABLES = {INK: "var(--ink)", _GRID: "var(--line)"} | {
    code: f"var(--series-{i})" for i, code in enumerate(_SERIES_HEX)
}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "figure.figsize": (4.6, 2.8),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def series(number: int) -> tuple[str, tuple[float, tuple[float, ...]] | str]:
    """Colour and line style of the series `number`, for matplotlib."""
    dash = DASHES[(number // SERIES) % len(DASHES)]
    return _SERIES_HEX[number % SERIES], dash_style(dash)


def dash_style(dash: str) -> tuple[float, tuple[float, ...]] | str:
    """A `stroke-dasharray` as a line style of matplotlib."""
    return (0.0, tuple(float(part) for part in dash.split())) if dash else "solid"


@contextmanager
def report_style() -> Iterator[None]:
    """The look of all figures; make and draw a figure inside it."""
    with matplotlib.rc_context(_STYLE):
        yield


def inline_svg(figure: Figure, *, name: str, label: str) -> str:
    """A figure as inline SVG; the same figure gives the same bytes.

    Args:
        figure: made under `report_style` with colours from `series`.
        name: prefix of its ids, since ids must be unique in a page.
        label: description of the figure for readers who cannot see it, already escaped.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.04)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    # With width and height in points it would not fill its column. The view box is enough.
    view = re.search(r'viewBox="[^"]*"', text)
    if view is None:
        raise PGPORuntimeError("matplotlib wrote an SVG without a viewBox")
    for code, variable in _VARIABLES.items():
        text = text.replace(code, variable)
    body = text[text.index(">") + 1 :]
    return f'<svg {view[0]} role="img" aria-label="{label}">{body.strip()}'
