"""Reads JSON lines, or one JSON array of rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks.sources._table import Row


def json_rows(path: Path) -> Iterator[Row]:
    """The rows of a text file: one array if it begins with `[`, else one row a line.

    Raises:
        PGPOValueError: the file is not UTF-8 text, or is one value that is not valid JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows programs write a byte order mark.
    except UnicodeDecodeError as error:
        raise PGPOValueError(f"{path}: a question file must be UTF-8 text: {error}") from error
    except OSError as error:
        raise PGPOValueError(f"{path}: a question file must be readable: {error}") from error
    return _array_rows(path, text) if text.lstrip().startswith("[") else _line_rows(path, text)


def _array_rows(path: Path, text: str) -> Iterator[Row]:
    value, problem = _parsed(text)
    if problem is not None:
        raise PGPOValueError(f"{path}: {problem}")
    for number, row in enumerate(value, 1):
        yield Row(f"{path}: row {number}", row)


def _line_rows(path: Path, text: str) -> Iterator[Row]:
    failed = False
    # str.splitlines is not used, because it also splits at U+2028 and others, which JSON strings
    # may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        value, problem = _parsed(line)
        if problem is not None and not failed:
            failed = True
            if isinstance(_parsed(text)[0], dict):
                raise PGPOValueError(
                    f"{path}: a question file must hold one row a line, or one array of rows, "
                    "got one JSON object over several lines"
                )
        yield Row(f"{path}: line {number}", value, problem)


def _parsed(text: str) -> tuple[Any, str | None]:
    """A value and `None`, or `None` and the error in the text."""
    try:
        return _DECODER.decode(text), None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}: " if "\n" in text.strip() else ""
        return None, f"{line}not valid JSON: {error.msg} (column {error.colno})"
    except ValueError as error:  # A repeated key, or an integer of thousands of digits.
        return None, f"not valid JSON: {error}"
    except RecursionError:
        return None, "not valid JSON: nested too deeply"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} comes twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
