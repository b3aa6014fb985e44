import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pgpo_jax.paths import local_path
from pgpo_jax.reports._cells import Cell, table_html
from pgpo_jax.reports._curves import Curve, line_figure
from pgpo_jax.reports._kept_row import KeptText
from pgpo_jax.reports._safe import safe
from pgpo_jax.reports._style import STYLE
from pgpo_jax.reports._svg import Figure, inline_svg
from pgpo_jax.reports._text_cards import answers_card, text_card, token_legend

# With this policy the browser refuses scripts and external resources in any text.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Page:
    """One self-contained HTML file: no network, no script, light and dark scheme, printable.

    All text is escaped, so a model's answer may be part of it. The same calls give the same bytes.
    Sections appear in the order of the calls. Consecutive figures share a grid.

    Args:
        title: title at the top and in the browser's tab.
        lead: sentence under the title.

    >>> page = Page("Two runs")
    >>> page.text("The model said <script>alert(1)</script>.")
    >>> "<script>" in page.html()
    False
    """

    def __init__(self, title: str, lead: str = ""):
        self._title, self._lead = title, lead
        self._parts: list[tuple[str, str]] = []
        self._figures = 0

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._add("heading", f"<h2>{safe(text)}</h2>")

    def text(self, text: str) -> None:
        """Add paragraphs, which are separated by blank lines."""
        paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
        self._add("text", "\n".join(f"<p>{safe(part)}</p>" for part in paragraphs))

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        *,
        caption: str = "",
        digits: int = 3,
    ) -> None:
        """Add a table; an `Interval` is shown with its ends.

        Args:
            columns: names of the columns, with units.
            rows: one cell per column.
            caption: above the table.
            digits: digits after the point, for numbers that are not integers.

        Raises:
            ValueError: if a row has another length than `columns`.
        """
        self._add("table", table_html(columns, rows, caption=caption, digits=digits))

    def figure(
        self,
        figure: Figure,
        *,
        title: str,
        caption: str = "",
        legend: Sequence[tuple[str, int, str]] = (),
    ) -> None:
        """Add a figure of matplotlib, which should be made under `report_style`.

        Args:
            figure: drawn as inline SVG.
            title: above it.
            caption: description of the figure, in plain words.
            legend: label, colour number and `stroke-dasharray` of each line.
        """
        self._figures += 1
        label = safe(f"{title}. {caption}".strip())
        svg = inline_svg(figure, name=f"f{self._figures}", label=label)
        items = "".join(
            '<li><svg viewBox="0 0 28 10" aria-hidden="true"><line x1="0" y1="5" x2="28" y2="5"'
            f' stroke="var(--series-{colour})" stroke-width="3" stroke-dasharray="{dash}"/></svg>'
            f"{safe(text)}</li>"
            for text, colour, dash in legend
        )
        key = f'<ul class="legend">{items}</ul>' if items else ""
        note = f"<figcaption>{safe(caption)}</figcaption>" if caption else ""
        self._add("figure", f"<figure><h3>{safe(title)}</h3>{key}\n{svg}\n{note}</figure>")

    def curves(
        self,
        curves: Sequence[Curve],
        *,
        title: str,
        x_label: str,
        y_label: str,
        caption: str = "",
        y_range: tuple[float | int, float | int] | None = None,
        reference: float | int | None = None,
        log_x: bool = False,
        log_y: bool = False,
    ) -> None:
        """Add lines with bands and a legend; see `line_figure`."""
        drawn = line_figure(
            curves,
            x_label=x_label,
            y_label=y_label,
            y_range=y_range,
            reference=reference,
            log_x=log_x,
            log_y=log_y,
        )
        legend = [(curve.label, *curve.style(place)) for place, curve in enumerate(curves)]
        self.figure(drawn, title=title, caption=caption, legend=legend)

    def kept_text(self, kept: KeptText) -> None:
        """Add a kept response: tokens marked by information, next to the teacher's prompt."""
        self._add("text", text_card(kept))

    def answers(self, before: KeptText, after: KeptText) -> None:
        """Add the answers of two evaluations to one question, side by side."""
        self._add("text", answers_card(before, after))

    def token_legend(self) -> None:
        """Add the legend of the markings of tokens."""
        self._add("text", token_legend())

    @contextmanager
    def fold(self, title: str, *, open: bool = False) -> Iterator[None]:
        """Fold the additions inside the `with` under a line that unfolds them."""
        state = " open" if open else ""
        self._add("text", f"<details{state}><summary>{safe(title)}</summary>")
        yield
        self._add("text", "</details>")

    def facts(self, facts: Mapping[str, object], *, fold: str = "") -> None:
        """Add names and values, such as a configuration; `fold` is the line that unfolds them."""
        items = "\n".join(
            f"<dt>{safe(name)}</dt><dd>{safe(str(value))}</dd>" for name, value in facts.items()
        )
        body = f"<dl>\n{items}\n</dl>"
        if fold:
            body = f"<details><summary>{safe(fold)}</summary>{body}</details>"
        self._add("facts", body)

    def command(self, command: str) -> None:
        """Add the command that made this page."""
        self._add("command", f"<pre><code>{safe(command)}</code></pre>")

    def html(self) -> str:
        """The whole page."""
        title, body = safe(self._title), []
        lead = f'<p class="lead">{safe(self._lead)}</p>\n' if self._lead else ""
        for place, (kind, part) in enumerate(self._parts):
            before = self._parts[place - 1][0] if place else ""
            after = self._parts[place + 1][0] if place + 1 < len(self._parts) else ""
            if kind == "figure" != before:
                body.append('<div class="figures">')
            body.append(part)
            if kind == "figure" != after:
                body.append("</div>")
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{STYLE}</style></head>\n"
            f"<body>\n<h1>{title}</h1>\n{lead}" + "\n".join(body) + "\n</body></html>\n"
        )

    def write(self, path: str | Path) -> Path:
        """Write the page atomically and create folders as needed."""
        path = local_path(path, "a page")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        # Lone surrogates cannot be encoded; a model's text may hold them.
        temporary.write_text(self.html(), encoding="utf-8", errors="replace")
        temporary.replace(path)
        return path

    def _add(self, kind: str, part: str) -> None:
        self._parts.append((kind, part))
