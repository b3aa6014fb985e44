"""Shares of runs to which something happens, and their differences, paired by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool
from scipy import stats

from experiments.sweeps._compare import holm
from experiments.sweeps._power import FEWEST_SEEDS
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports import Interval

_WANTED_POWER = 0.8


@dataclass(frozen=True)
class SharesCompared:
    """To how many runs of one arm something happens, against another arm, paired by seed.

    Attributes:
        name: what is compared.
        seeds: pairs of runs.
        first: the share of the first arm's runs, with its exact 95 % interval.
        second: of the second arm's.
        only_first: pairs in which it happens to the first run alone.
        only_second: pairs in which it happens to the second run alone.
        difference: `first - second` with the interval of Agresti and Min.
        p_value: of McNemar's exact test, two-sided; `adjusted` is Holm's over the family.
        verdict: `fewer` or `more` if `adjusted` is at most 0.05, else `undecided`.
    """

    name: str
    seeds: int
    first: Interval
    second: Interval
    only_first: int
    only_second: int
    difference: Interval
    p_value: float
    adjusted: float
    verdict: Literal["fewer", "more", "undecided"]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def share(happened: int, runs: int) -> Interval:
    """A share of runs with the exact 95 % interval of Clopper and Pearson.

    >>> share(0, 24).text()
    '0.000 [0.000, 0.142]'

    Raises:
        ValueError: without runs.
    """
    if runs < 1:
        raise PGPOValueError(f"a share needs at least 1 run, got {runs}")
    low = float(stats.beta.ppf(0.025, happened, runs - happened + 1)) if happened else 0.0
    high = 1.0
    if happened < runs:
        high = float(stats.beta.ppf(0.975, happened + 1, runs - happened))
    return Interval(happened / runs, low, high)


def compare_shares(
    happened: Mapping[str, Bool[np.ndarray, " S"]], pairs: Sequence[tuple[str, str]]
) -> list[SharesCompared]:
    """A family of paired comparisons of shares, with Holm's correction over all of them.

    The test is McNemar's exact one: given that it happens to one run of a pair alone, either run is
    as likely if the arms are alike. The interval is that of Agresti and Min (2005,
    https://doi.org/10.1002/sim.1781): Wald's after half a pair has been added to each cell.

    Args:
        happened: of each arm, for each seed, whether it happened to the run.
        pairs: which arm against which.
    """
    counts = [
        (int((happened[a] & ~happened[b]).sum()), int((happened[b] & ~happened[a]).sum()))
        for a, b in pairs
    ]
    # Without a pair that differs there is nothing to test.
    p_values = [
        float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
        for only_a, only_b in counts
    ]
    found = []
    rows = zip(pairs, counts, p_values, holm(p_values), strict=True)
    for (a, b), (only_a, only_b), p, adjusted in rows:
        seeds = len(happened[a])
        found.append(
            SharesCompared(
                name=f"{a} − {b}",
                seeds=seeds,
                first=share(int(happened[a].sum()), seeds),
                second=share(int(happened[b].sum()), seeds),
                only_first=only_a,
                only_second=only_b,
                difference=_difference(only_a, only_b, seeds),
                p_value=p,
                adjusted=adjusted,
                verdict=_verdict(only_a - only_b, adjusted, seeds),
            )
        )
    return found


def detectable_share(seeds: int, family: int) -> float | None:
    """The smallest share of pairs, all of which differ one way, that is found with 80 % power.

    At the level that the first of a family has to pass by Holm; `None` if no share is.

    >>> round(detectable_share(24, 9), 2), detectable_share(6, 9)
    (0.44, None)
    """
    needed = next((n for n in range(1, seeds + 1) if 2 * 0.5**n <= 0.05 / family), None)
    if needed is None:
        return None
    # The chance of at least so many pairs rises with the share.
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        enough = stats.binom.sf(needed - 1, seeds, middle) >= _WANTED_POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


def _difference(only_first: int, only_second: int, seeds: int) -> Interval:
    first, second, total = only_first + 0.5, only_second + 0.5, seeds + 2
    centre = (first - second) / total
    half = 1.96 * math.sqrt(first + second - (first - second) ** 2 / total) / total
    value = (only_first - only_second) / seeds
    return Interval(value, max(-1.0, centre - half), min(1.0, centre + half))


def _verdict(more: int, adjusted: float, seeds: int) -> Literal["fewer", "more", "undecided"]:
    if seeds < FEWEST_SEEDS or adjusted > 0.05:
        return "undecided"
    return "fewer" if more < 0 else "more"
