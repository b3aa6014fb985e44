"""Intervals of differences that are paired by seed and question."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports import Interval

_AT_ONCE = 50_000


def paired_bootstrap(
    differences: Float[np.ndarray, "S Q"], *, resamples: int = 10_000, seed: int = 0
) -> tuple[Interval, float]:
    """The mean of paired differences, its 95 % interval and a two-sided p-value.

    Two levels: seeds and questions are both drawn anew, each with replacement, since another
    training and other questions would both give another number. All seeds answer the same
    questions, so one draw of questions serves all seeds of a resample (Owen's pigeonhole
    bootstrap, https://doi.org/10.1214/07-AOAS122). It counts what is neither the seed's nor the
    question's three times, and so errs to the wide side. Deviations are widened by
    sqrt(n / (n - 1)) with n seeds, for which the bootstrap of few values is too narrow.

    Args:
        differences: one row per seed, one column per question.
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        The interval, and the share of draws at least as far from their centre as the mean is
        from 0.

    Raises:
        ValueError: with fewer than 2 seeds.
    """
    return family_bootstrap([differences], resamples, seed)[0]


def family_bootstrap(
    family: Sequence[Float[np.ndarray, "S Q"]], resamples: int, seed: int
) -> list[tuple[Interval, float]]:
    """`paired_bootstrap` of several arrays of one shape, by the same draws."""
    count, questions = family[0].shape
    if count < 2:
        raise PGPOValueError(f"an interval over seeds needs at least 2 of them, got {count}")
    rng = np.random.default_rng(seed)
    means = np.empty((len(family), resamples))
    for start in range(0, resamples, _AT_ONCE):
        size = min(_AT_ONCE, resamples - start)
        rows, columns = (_times_drawn(rng, n, size) for n in (count, questions))
        for place, differences in enumerate(family):
            means[place, start : start + size] = np.einsum("rq,rq->r", rows @ differences, columns)
    means /= count * questions
    found = []
    for draws, differences in zip(means, family, strict=True):
        mean = float(differences.mean())
        deviations = (draws - mean) * math.sqrt(count / (count - 1))
        low, high = np.quantile(deviations, [0.025, 0.975])
        # With one added to both, no finite number of draws gives a p-value of 0.
        extreme = int(np.sum(np.abs(deviations) >= abs(mean) - 1e-12))
        interval = Interval(mean, mean + float(low), mean + float(high))
        found.append((interval, (extreme + 1) / (resamples + 1)))
    return found


def _times_drawn(rng: np.random.Generator, n: int, size: int) -> Float[np.ndarray, "size n"]:
    """How often each of n comes up in n draws with replacement."""
    places = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
    return np.bincount(places.ravel(), minlength=size * n).reshape(size, n).astype(float)


class Variance(NamedTuple):
    """Of the mean of paired differences, in the two parts that its interval has.

    Attributes:
        seeds: falls as 1 / n with the number of seeds.
        questions: stays, for further seeds answer the same questions.
    """

    seeds: float
    questions: float

    @classmethod
    def of(cls, differences: Float[np.ndarray, "S Q"]) -> "Variance":
        """What the draws of `paired_bootstrap` vary by, in closed form."""
        count, questions = differences.shape
        by_seed, by_question = differences.mean(1), differences.mean(0)
        rest = differences - by_seed[:, None] - by_question + differences.mean()
        # The mean square of what is neither the seed's nor the question's.
        residual = float((rest**2).sum()) / max(1, (count - 1) * (questions - 1))
        own = by_question.var(ddof=1) - residual / count if questions > 1 else 0.0
        return cls(
            (float(by_seed.var(ddof=1)) + 2 * residual / questions) / count,
            max(0.0, float(own)) / questions,
        )
