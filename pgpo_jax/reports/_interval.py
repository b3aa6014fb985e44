import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pgpo_jax.errors import PGPOValueError

_Z = 1.959963984540054


class Interval(NamedTuple):
    """A number and its 95 % interval."""

    value: float | int
    low: float | int
    high: float | int

    def text(self, digits: int = 3) -> str:
        """The text in a table.

        >>> Interval(0.5, 0.25, 0.75).text(2)
        '0.50 [0.25, 0.75]'
        """
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def mean_interval(
    values: Sequence[float | int], *, low: float | int = 0.0, high: float | int = 1.0
) -> Interval:
    """The mean of independent scores with its 95 % interval.

    The interval is normal, with the standard deviation of the scores, and is clipped to
    `[low, high]`. If all scores are equal, the standard deviation is 0. The ends then follow from
    the share of other scores that n draws miss with probability 0.025.

    Args:
        values: one score per question, in `[low, high]`.
        low: smallest possible score.
        high: the largest.

    Raises:
        ValueError: if there are no scores.

    >>> mean_interval([0.0, 1.0, 1.0, 0.0] * 25).text(2)
    '0.50 [0.40, 0.60]'
    >>> mean_interval([0.0] * 64).text(2)
    '0.00 [0.00, 0.06]'
    """
    if not values:
        raise PGPOValueError("an interval needs at least one score, got none")
    n = len(values)
    mean = math.fsum(values) / n
    if all(value == values[0] for value in values):
        missed = (high - low) * _missed(n)
        return Interval(mean, max(low, mean - missed), min(high, mean + missed))
    half = _half_width(values)
    return Interval(mean, max(low, mean - half), min(high, mean + half))


def difference_interval(
    after: Mapping[str, float | int], before: Mapping[str, float | int]
) -> Interval:
    """The mean of `after - before` over the questions that both have, with its 95 % interval.

    The difference is paired, so the difficulty of the questions cancels. The interval does not
    include the variation between seeds of the training. If all differences are equal, the ends are
    as in `mean_interval`. Scores are in [0, 1].

    Raises:
        ValueError: if they have no question in common.

    >>> difference_interval({"a": 1.0, "b": 0.5}, {"a": 0.5, "b": 0.1}).text(2)
    '0.45 [0.35, 0.55]'
    """
    differences = [after[name] - before[name] for name in sorted(after.keys() & before.keys())]
    if not differences:
        raise PGPOValueError("a paired difference needs a common question, got none")
    mean = math.fsum(differences) / len(differences)
    equal = all(difference == differences[0] for difference in differences)
    half = _missed(len(differences)) if equal else _half_width(differences)
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half))


def _missed(n: int) -> float:
    """The share of cases that n draws miss with probability 0.025."""
    return 1 - 0.025 ** (1 / n)


def _half_width(values: Sequence[float | int]) -> float:
    n = len(values)
    if n < 2:
        return math.nan
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return _Z * math.sqrt(variance / n)
