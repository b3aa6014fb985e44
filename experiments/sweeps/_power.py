"""Power of paired comparisons by number of seeds."""

import math

import numpy as np
from scipy import stats

from experiments.sweeps._bootstrap import Variance

FEWEST_SEEDS = 6
"""Smallest number of seeds for a verdict. With fewer seeds all differences have the same sign by
chance in more than 1 of 20 cases (2 / 2^n)."""
_WANTED_POWER = 0.8


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


def too_few(seeds: int) -> str:
    """Says so if there are too few seeds for any verdict, and is empty otherwise.

    >>> too_few(2)
    '2 seeds decide nothing: a verdict needs at least 6.'
    """
    if seeds >= FEWEST_SEEDS:
        return ""
    return f"{seeds} seeds decide nothing: a verdict needs at least {FEWEST_SEEDS}."
