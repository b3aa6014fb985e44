import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._question import Message
from pgpo_jax.tasks.sources._table import shown


class Fields:
    """The fields of one row by their roles. All errors are recorded in `problems`.

    Args:
        row: the row.
        columns: the column of each role.
    """

    def __init__(self, row: Mapping[str, Any], columns: Mapping[str, str]) -> None:
        self.row, self.columns = row, columns
        self.problems: list[str] = []

    def value(self, role: str) -> Any:
        """The value in the column of a role; `None` if there is none, as in JSON."""
        return self.row.get(self.columns[role]) if role in self.columns else None

    def wrong(self, role: str, rule: str, *, got: bool = True) -> None:
        """Record that the field of a role breaks a rule."""
        name = self.columns[role]
        what = "nothing" if name not in self.row else shown(self.row[name])
        self.problems.append(f"field '{name}' {rule}" + (f", got {what}" if got else ""))

    def rest(self) -> dict[str, Any]:
        """The columns that have no role."""
        used = set(self.columns.values())
        return {name: value for name, value in self.row.items() if name not in used}

    def string(self, role: str) -> str:
        """A required string."""
        value = self.value(role)
        if not isinstance(value, str):
            self.wrong(role, "must be a string")
            return ""
        return self._encodable(role, value)

    def optional_string(self, role: str) -> str | None:
        """A string, or `None` if the row has none."""
        return None if self.value(role) is None else self.string(role)

    def text(self, role: str) -> str:
        """A required string; a number becomes its text."""
        value = self.value(role)
        number = number_text(value)
        if number is None and not isinstance(value, str):
            self.wrong(role, "must be a string or a finite number")
            return ""
        return self._encodable(role, value) if number is None else number

    def optional_text(self, role: str) -> str:
        """The same, or the empty string if the row has none."""
        return "" if self.value(role) is None else self.text(role)

    def id(self, role: str) -> str:
        """A required name."""
        known, name = len(self.problems), self.text(role)
        if not name.strip() and len(self.problems) == known:
            self.wrong(role, "must not be blank")
        return name

    def chat(self, role: str) -> list[Message]:
        """A required list of messages; empty if any of them is invalid."""
        value = self.value(role)
        if not isinstance(value, list) or not value:
            self.wrong(role, "must be a list of messages with 'role' and 'content'")
            return []
        known, messages = len(self.problems), []
        for number, message in enumerate(value, 1):
            try:
                messages.append(_message(message))
            except PGPOValueError as error:
                self.wrong(role, f"has a wrong message {number}: {error}", got=False)
            else:
                self._encodable(role, messages[-1].content)
        return messages if len(self.problems) == known else []

    def _encodable(self, role: str, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            self.wrong(role, "must be Unicode text, without half of a surrogate pair")
        return text


def number_text(value: Any) -> str | None:
    """The JSON text of a finite number, whole numbers without `.0`; `None` for other values.

    >>> number_text(3), number_text(3.0), number_text(2.50), number_text(True)
    ('3', '3', '2.5', None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Decimal) else json.dumps(value).removesuffix(".0")


def _message(value: Any) -> Message:
    if not isinstance(value, dict):
        raise PGPOValueError(f"must be an object with 'role' and 'content', got {shown(value)}")
    # Parquet fills missing fields of a message with nulls.
    given = {name: part for name, part in value.items() if part is not None}
    if given.keys() != {"role", "content"}:
        raise PGPOValueError(f"must have the fields 'role' and 'content' only, got {list(given)}")
    for name, part in given.items():
        if not isinstance(part, str):
            raise PGPOValueError(f"{name!r} must be a string, got {shown(part)}")
    return Message(given["role"], given["content"])
