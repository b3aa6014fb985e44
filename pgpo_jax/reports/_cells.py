"""Tables as HTML."""

import math
from collections.abc import Sequence

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports._interval import Interval
from pgpo_jax.reports._safe import safe

Cell = str | int | float | Interval | None
"""The values of a table: text is aligned left, numbers right, and `None` is a dash."""


def table_html(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    caption: str,
    digits: int,
    stacks: bool = True,
) -> str:
    """Rows under column names; see `Page.table`.

    Args:
        columns, rows, caption, digits: as there.
        stacks: whether a phone shows each row of a wide table as a list.
    """
    for row in rows:
        if len(row) != len(columns):
            raise PGPOValueError(f"a row needs {len(columns)} cells, got {len(row)}: {row!r}")
    numeric = [
        any(_is_number(row[i]) for row in rows)
        and all(_is_number(row[i]) or row[i] is None for row in rows)
        for i in range(len(columns))
    ]
    head = "".join(
        f'<th scope="col"{_number_class(n)}>{safe(name)}</th>'
        for name, n in zip(columns, numeric, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td{_number_class(n)} data-label="{safe(name)}">'
            f"<div>{_cell(value, digits)}</div></td>"
            for value, name, n in zip(row, columns, numeric, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    title = f'<p class="caption">{safe(caption)}</p>\n' if caption else ""
    # A list hides nothing beyond the right edge.
    kind = ' class="rows"' if stacks and len(columns) > 3 else ""
    return (
        f'{title}<div class="wide"><table{kind}><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, Interval | int | float)


def _number_class(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _cell(cell: Cell, digits: int) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, Interval):
        ends = f"[{_number(cell.low, digits)}, {_number(cell.high, digits)}]"
        return f'<span>{_number(cell.value, digits)}</span> <span class="ends">{ends}</span>'
    if isinstance(cell, bool | str):
        return safe(str(cell))
    return f"<span>{_number(cell, digits)}</span>"


def _number(value: float | int, digits: int) -> str:
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    # A true minus sign is as wide as a digit.
    return f"{value:.{digits}f}".replace("-", "−")
