"""Reads the small JSON files of models and runs. Errors name the file and the line."""

import json
import math
from pathlib import Path
from typing import Any

from pgpo_jax.errors import PGPOValueError

JSON_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "an integer",
    float: "a number",
    type(None): "null",
}
"""The name of each JSON type in an error."""


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text.

    Args:
        text: JSON.
        where: file, or file and line, for errors.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or holds an integer of thousands of
            digits. The message names the place.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise PGPOValueError(f"{where} is not JSON: nested too deeply") from None
    except ValueError as error:
        raise PGPOValueError(f"{where} is not JSON: {error}") from None


def read_text(path: Path) -> str:
    """The text of a file, without the byte order mark that Windows programs write.

    Raises:
        ValueError: the file is not UTF-8. The message names it.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PGPOValueError(f"{path} is not UTF-8 text: {error}") from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: the file holds anything else. The message names it.
    """
    value = parse_json(read_text(path), str(path))
    if not isinstance(value, dict):
        raise PGPOValueError(f"{path} must hold a JSON object, got {value!r:.60}")
    return value


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a file of JSON lines. A line that a crash cut off is left out.

    Args:
        path: a file such as `metrics.jsonl`. If it does not exist, there are no rows.

    Raises:
        ValueError: a line is not an object with an integer `step` in [0, 2**53). The message names
            the line.
    """
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(read_text(path).split("\n")[:-1], 1):
        if not line:
            continue
        where = f"{path}, line {number}"
        row = parse_json(line, where)
        if not isinstance(row, dict) or not _is_step(row.get("step")):
            raise PGPOValueError(f"{where} must be an object with a step, got {line:.60}")
        rows.append(row)
    return rows


def number(value: Any) -> float:
    """A JSON value as a float; NaN if it is no number or beyond the range of a float.

    >>> number(3), number(10**400), number(None)
    (3.0, nan, nan)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _is_step(value: Any) -> bool:
    # In Python, `True` is an int.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
