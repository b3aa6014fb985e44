"""Means over seeds, with what is known of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from experiments.sweeps._records import SETTLED, Records, last, scores
from pgpo_jax.reports import Curve, Interval, RunRecord


def over_seeds(
    values: Sequence[float] | np.ndarray, *, low: float = -np.inf, high: float = np.inf
) -> Interval:
    """Mean and 95 % t-interval of one number per seed, cut to `[low, high]`."""
    array = np.asarray(values, float)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Interval(mean, max(low, mean - half), min(high, mean + half))


def share_over_seeds(values: Sequence[float] | np.ndarray) -> Interval:
    """`over_seeds` of numbers between 0 and 1."""
    return over_seeds(values, low=0.0, high=1.0)


def mean_curves(runs: Records, metric: str) -> list[Curve]:
    """A metric over the steps by arm: means over seeds with their 95 % bands.

    `metric` is a name in `metrics.jsonl`; `eval/...` are those of the evaluations.
    """
    # Lines that lie upon each other are told apart by their dashes.
    return [
        _mean_curve(name, runs[name], metric, dash=place % 4) for place, name in enumerate(runs)
    ]


def _mean_curve(name: str, runs: Sequence[RunRecord], metric: str, **style: Any) -> Curve:
    rows = "evaluations" if metric.startswith("eval/") else "steps"
    bounds = {"high": 1.0} if metric.endswith("accuracy") else {}
    series = [run.series(metric, rows) for run in runs]
    shared = sorted(set.intersection(*(set(steps) for steps, _ in series)))
    points = [
        over_seeds([dict(zip(steps, values, strict=True))[s] for steps, values in series], **bounds)
        for s in shared
    ]
    return Curve(
        name,
        shared,
        [p.value for p in points],
        [p.low for p in points],
        [p.high for p in points],
        **style,
    )


def mean_of(run: RunRecord, metric: str) -> float:
    """Mean of a metric over a run's steps; NaN if it has none."""
    value = run.mean(metric)
    return float("nan") if value is None else value


def arm_means(records: Records, **metrics: str) -> dict[str, dict[str, Interval]]:
    """What is told of each arm: means over seeds.

    Args:
        records: of each arm.
        metrics: further metrics of `metrics.jsonl`, averaged over the steps, by the name they get.

    Returns:
        By arm: `outcome`, `last` (the last accuracy), `rho`, and the further metrics.
    """
    outcome, final = scores(records, SETTLED), scores(records, last)
    wanted = {"rho": "pgpo/rho", **metrics}
    return {
        name: {
            "outcome": share_over_seeds(outcome[name].mean(1)),
            "last": share_over_seeds(final[name].mean(1)),
            **{
                short: over_seeds([mean_of(run, metric) for run in runs])
                for short, metric in wanted.items()
            },
        }
        for name, runs in records.items()
    }
