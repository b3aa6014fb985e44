"""The result of every reader: rows with their places."""

import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pgpo_jax.errors import PGPOValueError

_ROWS_SHOWN = 20

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 80


def shown(value: Any) -> str:
    """A value for an error message: its repr with long parts shortened."""
    text = _repr.repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


class Row(NamedTuple):
    """One row of a source.

    Attributes:
        place: place of the row, such as `"q.jsonl: line 3"`.
        value: contents of the row; a mapping if it is well formed.
        problem: the error if it could not be read, or `None`.
    """

    place: str
    value: Any
    problem: str | None = None


class Table(NamedTuple):
    """The rows of one source.

    Attributes:
        source: path or id of the source, for messages.
        stem: prefix of the ids of rows without an id.
        folder: name of the folder of a file, else of the data set.
        domain: domain of rows without a domain.
        rows: iterator over the rows, which can be read once.
    """

    source: str
    stem: str
    folder: str
    domain: str
    rows: Iterator[Row]


@dataclass
class Problems:
    """Collects all errors of the rows of a table for one message."""

    of_row: dict[str, list[str]] = field(default_factory=dict)

    def add(self, place: str, problem: str) -> None:
        self.of_row.setdefault(place, []).append(problem)

    def check(self) -> None:
        """Raise one `PGPOValueError` with a line for each problem, if there are any."""
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
