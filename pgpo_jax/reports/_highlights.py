"""Marks in a kept text: tokens by their information, and text that only the teacher was shown.

The page and the terminal mark the same things.
"""

import math

from pgpo_jax.reports._kept_row import KeptText

LEVELS = (0.1, 0.3, 1.0)
"""Smallest absolute information, in nats, of a token with the marking 1, 2 or 3.

They are the same for all steps and runs, so that colours can be compared.
"""

LEAST = 0.001
"""Absolute information, in nats, below which a token is not listed."""


def level(information: float | int) -> int:
    """The marking of a token, from -3 to 3; 0 for none, also for NaN.

    >>> [level(x) for x in (0.05, 0.1, -0.5, 7.0, math.nan)]
    [0, 1, -2, 3, 0]
    """
    if math.isnan(information):
        return 0
    size = sum(abs(information) >= bound for bound in LEVELS)
    return size if information > 0 else -size


def level_name(number: int) -> str:
    """The range of a marking, for legends.

    >>> [level_name(x) for x in (-3, 1)]
    ['I ≤ −1', '0.1 ≤ I < 0.3']
    """
    low = LEVELS[abs(number) - 1]
    high = LEVELS[abs(number)] if abs(number) < len(LEVELS) else None
    if number > 0:
        return f"I ≥ {low:g}" if high is None else f"{low:g} ≤ I < {high:g}"
    return f"I ≤ −{low:g}" if high is None else f"−{high:g} < I ≤ −{low:g}"


def most_informative(kept: KeptText, count: int) -> list[int]:
    """The positions of the tokens with the largest absolute information, the largest first.

    Those below `LEAST` or without a number are left out.
    """
    values = kept.numbers.get("information", ())
    places = [place for place, value in enumerate(values) if abs(value) >= LEAST]
    return sorted(places, key=lambda place: (-abs(values[place]), place))[:count]


def teacher_parts(kept: KeptText) -> list[tuple[str, bool]]:
    """The teacher's message in parts, each with a flag for text that the student was not shown.

    If the message does not contain the student's word for word, it is one new part.
    """
    shown, asked = kept.teacher_prompt or "", kept.question.prompt
    before, same, after = shown.partition(asked) if asked else (shown, "", "")
    parts = [(before, True), (same, False), (after, True)]
    return [(text, new) for text, new in parts if text]
