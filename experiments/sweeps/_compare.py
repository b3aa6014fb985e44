"""Families of paired comparisons, and what is said of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from experiments.sweeps._bootstrap import Variance, family_bootstrap
from experiments.sweeps._power import FEWEST_SEEDS, detectable_difference, seeds_needed
from pgpo_jax.reports import Interval

_RESAMPLES = 1_000_000
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


def verdict(
    difference: Interval, margin: float, *, seeds: int, adjusted: float | None = None
) -> Verdict:
    """The verdict of an interval, given the smallest difference that matters.

    `better` and `worse` need an interval without 0 and, if an adjusted p-value is given, a p-value
    of at most 0.05. `no difference that matters` needs the interval inside the margin. So a
    difference that is certain but smaller than the margin is judged by its size. Anything else is
    `undecided`, and so is everything with fewer than `FEWEST_SEEDS` seeds.

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
        resamples: number of bootstrap draws, by default a million. A p-value of 0.004, which
            decides in a dozen comparisons, is then known to a relative error of 2 %. With 4,000
            draws it would be 25 %.
    """
    if not pairs:
        return []
    family = [scores[first] - scores[second] for first, second in pairs]
    measured = family_bootstrap(family, resamples or _RESAMPLES, 0)
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
