"""Intervals, tests and power for runs that are paired by seed and question."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from pgpo_jax.reports import Interval

_RESAMPLES = 4000

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
        detectable: the smallest difference that so many seeds find with 80 % power.
        seeds_to_decide: seeds at which it would be decided if the difference stays what it is, see
            `seeds_to_decide`; the present number if it is decided already.
        verdict: see `verdict`.
    """

    name: str
    seeds: int
    difference: Interval
    p_value: float
    adjusted: float
    effect: float
    detectable: float
    seeds_to_decide: int | None
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"difference": list(self.difference)}


def paired_bootstrap(
    differences: Float[np.ndarray, "S Q"], *, resamples: int = _RESAMPLES, seed: int = 0
) -> tuple[Interval, float]:
    """The mean of paired differences, its 95 % interval and a two-sided p-value.

    Two levels: seeds and questions are both drawn anew, each with replacement, since another
    training and other questions would both give another number. All seeds answer the same
    questions, so one draw of questions serves all seeds of a resample (Owen's pigeonhole
    bootstrap, https://doi.org/10.1214/07-AOAS122). Deviations are widened by sqrt(n / (n - 1))
    with n seeds, for which the bootstrap of few values is too narrow.

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
    count, questions = differences.shape
    if count < 2:
        raise ValueError(f"an interval over seeds needs at least 2 of them, got {count}")
    rng = np.random.default_rng(seed)
    mean = float(differences.mean())
    rows = rng.multinomial(count, np.full(count, 1 / count), resamples) / count
    columns = rng.multinomial(questions, np.full(questions, 1 / questions), resamples) / questions
    draws = np.einsum("rs,sq,rq->r", rows, differences, columns, optimize=True)
    deviations = (draws - mean) * math.sqrt(count / (count - 1))
    low, high = np.quantile(deviations, [0.025, 0.975])
    # With one added to both, no finite number of draws gives a p-value of 0.
    extreme = np.sum(np.abs(deviations) >= abs(mean) - 1e-12)
    return Interval(mean, mean + float(low), mean + float(high)), float(
        (extreme + 1) / (resamples + 1)
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


def detectable_difference(deviation: float, pairs: int, *, wanted: float = 0.8) -> float:
    """The smallest difference that the paired t-test finds with the wanted power.

    Args:
        deviation: standard deviation of the differences between pairs.
        pairs: how many there are, at least 2.
        wanted: power.
    """
    if deviation == 0:
        return 0.0
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, pairs) < wanted else (low, middle)
    return high * deviation


def pairs_needed(difference: float, deviation: float, *, wanted: float = 0.8) -> int | None:
    """The number of pairs at which the paired t-test finds a difference with the wanted power.

    `None` beyond 100,000.

    >>> pairs_needed(0.5, 1.0)
    34
    """
    if difference == 0:
        return None
    if deviation == 0:
        return 2
    effect = abs(difference) / deviation
    low, high = 2, 100_000
    if power(effect, high) < wanted:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if power(effect, middle) < wanted else (low, middle)
    return low


def verdict(difference: Interval, margin: float, adjusted: float | None = None) -> Verdict:
    """What an interval says, given the smallest difference that matters.

    `better` and `worse` need the interval beside 0 and, if an adjusted p-value is given, that it
    is at most 0.05; `no difference that matters` needs the interval inside the margin (so a
    difference that is certain but smaller than the margin is called by its size); anything else is
    `undecided`.

    >>> verdict(Interval(0.004, -0.01, 0.018), 0.02)
    'no difference that matters'
    >>> verdict(Interval(0.03, -0.01, 0.07), 0.02)
    'undecided'
    """
    if -margin < difference.low and difference.high < margin:
        return "no difference that matters"
    if adjusted is None or adjusted <= 0.05:
        if difference.low > 0:
            return "better"
        if difference.high < 0:
            return "worse"
    return "undecided"


def seeds_to_decide(difference: Interval, seeds: int, margin: float, family: int = 1) -> int | None:
    """Seeds at which an undecided interval, shrunk as 1/sqrt(n) about the same mean, would decide.

    It must then lie within the margin, or be beside 0 at the level that the first of `family`
    comparisons has to pass. `None` if no number of seeds does it.

    >>> seeds_to_decide(Interval(0.0, -0.04, 0.04), 10, 0.02)
    40
    """
    half = (difference.high - difference.low) / 2
    away, inside = abs(difference.value), margin - abs(difference.value)
    stricter = float(stats.norm.ppf(1 - 0.025 / family) / stats.norm.ppf(0.975))
    ways = [(half * stricter, away), (half, inside)]
    needed = [math.ceil(seeds * (width / room) ** 2) for width, room in ways if room > 0]
    return max(seeds + 1, min(needed)) if needed else None


def compare(
    scores: Mapping[str, Float[np.ndarray, "S Q"]],
    pairs: Sequence[tuple[str, str]],
    *,
    margin: float,
) -> list[Comparison]:
    """A family of paired comparisons, with Holm's correction over all of them.

    Args:
        scores: of each arm, one row per seed and one column per question.
        pairs: which arm against which.
        margin: the smallest difference that matters.
    """
    measured = []
    for first, second in pairs:
        differences = scores[first] - scores[second]
        measured.append((differences, *paired_bootstrap(differences)))
    adjusted = holm([p for _, _, p in measured])
    found = []
    for (first, second), (differences, interval, p), p_holm in zip(
        pairs, measured, adjusted, strict=True
    ):
        by_seed = differences.mean(axis=1)
        count, deviation = len(by_seed), float(by_seed.std(ddof=1))
        result = verdict(interval, margin, p_holm)
        needed = seeds_to_decide(interval, count, margin, len(pairs))
        found.append(
            Comparison(
                name=f"{first} − {second}",
                seeds=count,
                difference=interval,
                p_value=p,
                adjusted=p_holm,
                effect=interval.value / deviation if deviation else math.nan,
                detectable=detectable_difference(deviation, count),
                seeds_to_decide=needed if result == "undecided" else count,
                verdict=result,
            )
        )
    return found
