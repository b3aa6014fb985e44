"""The contents of one line of `texts.jsonl` or `questions.jsonl`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pgpo_jax._json_files import JSON_NAMES, number, parse_json
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import Grade, Message, Question

TOKEN_NUMBERS = ("information", "divergence", "student_entropy", "teacher_entropy")
_SPLITS = ("train", "test")


@dataclass(frozen=True)
class KeptText:
    """A response that a run kept, with its grade and its numbers.

    Attributes:
        step: the step that sampled it, or the step before an evaluation.
        split: `"train"`, or `"test"` for an answer of an evaluation.
        question: the question.
        response: the response of the student.
        grade: the grade of the response.
        teacher_prompt: the last user message that the teacher was shown; `None` if there is none.
        tokens: the text of each response token; empty for an answer of an evaluation.
        numbers: nats per token by the names of `TOKEN_NUMBERS`, each as long as `tokens`. Numbers
            that the run did not measure are missing. Values that are not finite are NaN.

    Added in version 0.2.0.
    """

    step: int
    split: str
    question: Question
    response: str
    grade: Grade
    teacher_prompt: str | None = None
    tokens: tuple[str, ...] = ()
    numbers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def parse_text(line: str, where: str) -> KeptText:
    """A line of `texts.jsonl`.

    Args:
        line: JSON.
        where: file and line, for errors.

    Raises:
        ValueError: the line is not one that a run writes. The message names place and field.
    """
    row = _Fields(parse_json(line, where), where)
    grade = _Fields(row.get("grade", dict), f"{where}, grade")
    step, split = row.get("step", int), row.get("split", str)
    if split not in _SPLITS:
        raise PGPOValueError(f"{where}: split must be one of {_SPLITS}, got {split!r:.60}")
    if step < 0:
        raise PGPOValueError(f"{where}: step must be at least 0, got {step}")
    tokens = row.get("tokens", list, default=[])
    if not all(isinstance(token, str) for token in tokens):
        raise PGPOValueError(f"{where}: tokens must be texts, got {tokens!r:.60}")
    numbers = {
        name: _numbers(row.get(name, list), name, len(tokens), where)
        for name in TOKEN_NUMBERS
        if name in row.values
    }
    return KeptText(
        step=step,
        split=split,
        question=_question(row.get("question", dict), f"{where}, question"),
        response=row.get("response", str),
        grade=Grade(
            _score(grade.get("score", int, float), where),
            grade.get("prediction", str),
            grade.get("feedback", str),
        ),
        teacher_prompt=row.get("teacher_prompt", str, type(None), default=None),
        tokens=tuple(tokens),
        numbers=numbers,
    )


def parse_question(line: str, where: str) -> Question:
    """A line of `questions.jsonl`, with the arguments and errors of `parse_text`."""
    return _question(parse_json(line, where), where)


class _Fields:
    """The fields of an object, each with its required type."""

    def __init__(self, values: Any, where: str):
        if not isinstance(values, dict):
            raise PGPOValueError(f"{where} must be an object, got {values!r:.60}")
        self.values: dict[str, Any] = values
        self._where = where

    def get(self, name: str, *types: type, default: Any = ...) -> Any:
        value = self.values.get(name, default)
        if value is ...:
            raise PGPOValueError(f"{self._where}: {name} is missing")
        # In Python, `True` is an int.
        if not isinstance(value, types) or isinstance(value, bool):
            expected = " or ".join(JSON_NAMES[kind] for kind in types)
            raise PGPOValueError(f"{self._where}: {name} must be {expected}, got {value!r:.60}")
        return value


def _question(values: Any, where: str) -> Question:
    row = _Fields(values, where)
    turns = [_Fields(turn, f"{where}, message") for turn in row.get("messages", list)]
    try:
        return Question.from_messages(
            row.get("id", str),
            [Message(turn.get("role", str), turn.get("content", str)) for turn in turns],
            row.get("answer", str),
            domain=row.get("domain", str),
            kind=row.get("kind", str),
        )
    except PGPOValueError as error:
        message = str(error)
        raise PGPOValueError(
            message if message.startswith(where) else f"{where}: {message}"
        ) from None


def _numbers(values: list[Any], name: str, count: int, where: str) -> tuple[float, ...]:
    if len(values) != count:
        raise PGPOValueError(
            f"{where}: {name} must have one number per token, {count}, got {len(values)}"
        )
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise PGPOValueError(f"{where}: {name} must hold numbers or null, got {value!r:.60}")
    return tuple(_finite(value) for value in values)


def _finite(value: Any) -> float:
    """The number; NaN for null, NaN, Infinity and numbers beyond the range of a float."""
    finite = number(value)
    return finite if math.isfinite(finite) else math.nan


def _score(value: float | int, where: str) -> float:
    score = _finite(value)
    if math.isnan(score):
        raise PGPOValueError(f"{where}, grade: score must be finite, got {value!r:.60}")
    return score
