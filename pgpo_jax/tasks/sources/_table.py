"""What every reader gives: rows, and where each of them is."""

import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pgpo_jax.errors import PGPOValueError

_ROWS_SHOWN = 20

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 80


def shown(value: Any) -> str:
    """A value as an error message shows it: its repr, long parts cut."""
    text = _repr.repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


class Row(NamedTuple):
    """One row as it was read.

    Attributes:
        place: where it is, e.g. `"q.jsonl: line 3"`.
        value: what is there; a mapping if the row is well formed.
        problem: why it could not be read, or `None`.
    """

    place: str
    value: Any
    problem: str | None = None


class Table(NamedTuple):
    """The rows of one source.

    Attributes:
        source: the path or id, for messages.
        stem: begins the ids of rows that bring none.
        folder: the name of the folder that holds a file; else that of the data set.
        domain: the domain of rows that bring none.
        rows: can be read once.
    """

    source: str
    stem: str
    folder: str
    domain: str
    rows: Iterator[Row]


@dataclass
class Problems:
    """All that is wrong with the rows of a table, told in one error."""

    of_row: dict[str, list[str]] = field(default_factory=dict)

    def add(self, place: str, problem: str) -> None:
        self.of_row.setdefault(place, []).append(problem)

    def check(self) -> None:
        """Raises one `PGPOValueError` with a line per problem, if there are any."""
        if not self.of_row:
            return
        lines = [
            f"{place}: {problem}"
            for place, problems in list(self.of_row.items())[:_ROWS_SHOWN]
            for problem in problems
        ]
        more = len(self.of_row) - _ROWS_SHOWN
        if more > 0:
            lines.append(f"... and {more} more wrong rows")
        raise PGPOValueError("\n".join(lines))
