"""Intervals, tests and power for runs that are paired by seed and question."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports import Interval

_RESAMPLES = 1_000_000
_AT_ONCE = 50_000
FEWEST_SEEDS = 6
"""With fewer seeds there is no verdict: even if all of them differ the same way, chance alone does
so in more than 1 of 20 cases (2 / 2^n)."""
_WANTED_POWER = 0.8

Verdict = Literal["better", "worse", "no difference that matters", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """One arm against another, paired by seed and question.

    Attributes:
        name: what is compared.
        seeds: pairs of runs.
        difference: the mean of `first - second` with its 95 % interval.
        p_value: two-sided, of no difference; `adjusted` is Holm's over the family.
        effect: the mean difference over its standard deviation between seeds (paired d).
        detectable: the smallest difference that so many seeds find with 80 % power, at the level
            that the first of the family has to pass.
        seeds_beside_zero: seeds that find the difference so with 80 % power if it is what it seems.
        seeds_within_margin: seeds that place it inside the margin likewise.
        seeds_to_decide: the smaller of the two; the present number if it is decided already.
        verdict: see `verdict`.

    Numbers of seeds are `None` where no number does it.
    """

    name: str
    seeds: int
    difference: Interval
    p_value: float
    adjusted: float
    effect: float
    detectable: float
    seeds_beside_zero: int | None
    seeds_within_margin: int | None
    seeds_to_decide: int | None
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"difference": list(self.difference)}


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
    return _bootstrap([differences], resamples, seed)[0]


def _bootstrap(
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


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, running = np.empty(len(p_values)), 0.0
    for place, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = running
    return [float(p) for p in adjusted]


def power(effect: float, pairs: int, *, level: float = 0.05) -> float:
    """Power of the two-sided paired t-test.

    >>> round(power(0.5, 34), 2)
    0.81
    """
    critical = stats.t.ppf(1 - level / 2, pairs - 1)
    centre = effect * math.sqrt(pairs)
    tails = stats.nct.sf(critical, pairs - 1, centre), stats.nct.cdf(-critical, pairs - 1, centre)
    return float(np.nansum(tails))


def detectable_difference(deviation: float, pairs: int, *, level: float = 0.05) -> float:
    """The smallest difference that the paired t-test finds with 80 % power.

    Args:
        deviation: standard deviation of the differences between pairs.
        pairs: how many there are, at least 2.
        level: of the two-sided test.
    """
    if deviation == 0:
        return 0.0
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        found = power(middle, pairs, level=level) >= _WANTED_POWER
        low, high = (low, middle) if found else (middle, high)
    return high * deviation


def verdict(
    difference: Interval, margin: float, *, seeds: int, adjusted: float | None = None
) -> Verdict:
    """What an interval says, given the smallest difference that matters.

    `better` and `worse` need the interval beside 0 and, if an adjusted p-value is given, that it
    is at most 0.05; `no difference that matters` needs the interval inside the margin (so a
    difference that is certain but smaller than the margin is called by its size); anything else is
    `undecided`, and so is everything with fewer than `FEWEST_SEEDS`.

    >>> verdict(Interval(0.004, -0.01, 0.018), 0.02, seeds=12)
    'no difference that matters'
    >>> verdict(Interval(0.03, -0.01, 0.07), 0.02, seeds=12)
    'undecided'
    >>> verdict(Interval(0.03, 0.029, 0.031), 0.02, seeds=5)
    'undecided'
    """
    if seeds < FEWEST_SEEDS:
        return "undecided"
    if -margin < difference.low and difference.high < margin:
        return "no difference that matters"
    if adjusted is None or adjusted <= 0.05:
        if difference.low > 0:
            return "better"
        if difference.high < 0:
            return "worse"
    return "undecided"


def too_few(seeds: int) -> str:
    """Says so if there are too few seeds for any verdict, and is empty otherwise.

    >>> too_few(2)
    '2 seeds decide nothing: a verdict needs at least 6.'
    """
    if seeds >= FEWEST_SEEDS:
        return ""
    return f"{seeds} seeds decide nothing: a verdict needs at least {FEWEST_SEEDS}."


def seeds_needed(
    difference: float,
    variance: Variance,
    seeds: int,
    *,
    margin: float | None = None,
    level: float = 0.05,
) -> int | None:
    """Seeds that find what has been measured with 80 % power, if it is the truth.

    Only the seeds' part of the variance falls. `None` beyond 100,000; so it is where the questions'
    part alone is too large.

    Args:
        difference: the mean.
        variance: of it.
        seeds: that it was measured with.
        margin: to be found inside of; by default the interval is to be beside 0.
        level: of the two-sided interval.

    >>> seeds_needed(0.028, Variance(0.01**2, 0.0), 10)
    11
    >>> seeds_needed(0.0, Variance(0.01**2, 0.0), 10, margin=0.02)
    27
    >>> seeds_needed(0.028, Variance(0.01**2, 0.01**2), 10) is None
    True
    """
    critical = stats.norm.ppf(1 - level / 2)

    def passed(room: float, error: float) -> float:
        distance = room / error if error else math.copysign(math.inf, room) if room else 0.0
        return float(stats.norm.cdf(distance - critical))

    def enough(count: int) -> bool:
        error = math.sqrt(variance.seeds * seeds / count + variance.questions)
        if margin is None:
            return passed(abs(difference), error) >= _WANTED_POWER
        both = passed(margin - difference, error) + passed(margin + difference, error)
        return both - 1 >= _WANTED_POWER

    low, high = FEWEST_SEEDS, 100_000
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def compare(
    scores: Mapping[str, Float[np.ndarray, "S Q"]],
    pairs: Sequence[tuple[str, str]],
    *,
    margin: float,
    resamples: int | None = None,
) -> list[Comparison]:
    """A family of paired comparisons, with Holm's correction over all of them.

    Args:
        scores: of each arm, one row per seed and one column per question.
        pairs: which arm against which.
        margin: the smallest difference that matters.
        resamples: bootstrap draws; by default a million, so that a p-value of 0.004, which decides
            in a dozen comparisons, is known to 2 % of it (by 4,000 draws it would be to 25 %).
    """
    if not pairs:
        return []
    family = [scores[first] - scores[second] for first, second in pairs]
    measured = _bootstrap(family, resamples or _RESAMPLES, 0)
    adjusted = holm([p for _, p in measured])
    # What the first of the family has to pass.
    level = 0.05 / len(pairs)
    found = []
    for (first, second), differences, (interval, p), p_holm in zip(
        pairs, family, measured, adjusted, strict=True
    ):
        by_seed, variance = differences.mean(axis=1), Variance.of(differences)
        count, deviation = len(by_seed), float(by_seed.std(ddof=1))
        result = verdict(interval, margin, seeds=count, adjusted=p_holm)
        beside = seeds_needed(interval.value, variance, count, level=level)
        within = seeds_needed(interval.value, variance, count, margin=margin)
        # What is undecided needs more than there are, whatever the sum says.
        more = [max(count + 1, n) for n in (beside, within) if n]
        found.append(
            Comparison(
                name=f"{first} − {second}",
                seeds=count,
                difference=interval,
                p_value=p,
                adjusted=p_holm,
                effect=interval.value / deviation if deviation else math.nan,
                detectable=detectable_difference(
                    math.sqrt(count * sum(variance)), count, level=level
                ),
                seeds_beside_zero=beside,
                seeds_within_margin=within,
                seeds_to_decide=min(more, default=None) if result == "undecided" else count,
                verdict=result,
            )
        )
    return found
