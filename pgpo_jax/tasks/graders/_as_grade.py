import math
from collections.abc import Mapping
from typing import Any

from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks.graders._base import FailedGrade

_FIELDS = {"score", "prediction", "feedback"}


def as_grade(value: Any) -> Grade:
    """Convert the result of a reward to a `Grade`.

    Args:
        value: a number, a NumPy scalar, an array of shape (), a `Grade`, or a mapping. A mapping
            has `score` and may have `feedback` and `prediction`.

    Returns:
        A `Grade` whose score is a finite `float`.

    Raises:
        TypeError: the result has another type, which the message names. `[1.0]` is a list and no
            number.
        ValueError: the score is not finite, or a mapping has no `score` or other keys.

    >>> as_grade({"score": 1, "feedback": "Well done."})
    Grade(score=1.0, prediction='', feedback='Well done.')

    Added in version 0.2.0.
    """
    if isinstance(value, FailedGrade):
        return value
    if isinstance(value, Grade):
        fields: Mapping[str, Any] = value._asdict()
    elif isinstance(value, Mapping):
        fields = value
        if "score" not in fields or not set(fields) <= _FIELDS:
            raise PGPOValueError(
                "a reward that returns a mapping must give it 'score' and may give it 'feedback' "
                f"and 'prediction', got the keys {sorted(map(str, fields))}"
            )
    else:
        fields = {"score": value}
    texts = {}
    for name in ("prediction", "feedback"):
        text = fields.get(name, "")
        if not isinstance(text, str):
            raise PGPOTypeError(f"the {name} of a reward must be a str, got {_described(text)}")
        texts[name] = text
    return Grade(_number(fields["score"]), **texts)


def _number(value: Any) -> float:
    # NumPy's and JAX's scalars and arrays of shape ().
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, int | float):
        raise PGPOTypeError(
            "a reward must return a number, a Grade or a mapping with 'score', "
            f"got {_described(value)}"
        )
    if not math.isfinite(value):
        raise PGPOValueError(f"the score of a reward must be finite, got {value!r}")
    return float(value)


def _described(value: Any) -> str:
    kind, shape = type(value).__name__, getattr(value, "shape", None)
    if shape is not None:
        return f"{kind} of shape {shape}"
    # This shows the error of a reward with `async def` at once.
    return kind if kind == "coroutine" else f"{kind}: {repr(value)[:80]}"
