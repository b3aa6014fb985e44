"""Multipliers between 0 and 1, one per step, as the signal that a replay gives them by."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from experiments.sweeps._collapse import first_negative
from pgpo_jax.reports import RunRecord

# Nats. At any alpha from 0.01 on rho is 0 in float32, and the weights stay as they are.
_STOPPED = -1e5


def as_signal(rho: Sequence[float] | np.ndarray, alpha: float) -> tuple[float, ...]:
    """The signal, in nats, whose multiplier exp(alpha I) is `rho`; 0 is -1e5 nats.

    >>> [round(nats, 3) for nats in as_signal([1.0, 0.5, 0.0], 30.0)]
    [0.0, -0.023, -100000.0]
    """
    return tuple(math.log(r) / alpha if r > 0 else _STOPPED for r in np.asarray(rho, float))


def taken(run: RunRecord, steps: int) -> Float[np.ndarray, " steps"]:
    """The multipliers of a run, one per step.

    A step in which nothing was trained (no sequence had a teacher, or the gradient was not finite)
    has the multiplier of the last step that was. So have the steps after a run was stopped. 1 comes
    before the first step that was trained.
    """
    rho, values = 1.0, []
    applied = dict(zip(*run.series("optimizer/applied"), strict=True))
    given = dict(zip(*run.series("pgpo/rho"), strict=True))
    for step in range(1, steps + 1):
        if applied.get(step):
            rho = given[step]
        values.append(rho)
    return np.array(values)


def until(step: int, steps: int) -> Float[np.ndarray, " steps"]:
    """1 for the first `step` steps, then 0.

    >>> until(2, 4).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    return (np.arange(steps) < step).astype(float)


def cosine(total: float, steps: int) -> Float[np.ndarray, " steps"]:
    """A half cosine from 1 downwards whose sum is `total`, up to its rounding.

    It reaches 0 and stays there, or ends above 0 if it would otherwise be too small.

    Args:
        total: at least 1 (the first step alone) and at most `steps`.
        steps: of the run.

    >>> [round(float(cosine(total, 60).sum()), 6) for total in (8.5, 30.0, 45.0)]
    [8.5, 30.0, 45.0]
    """
    places = np.arange(steps)

    def falling(width: float) -> Float[np.ndarray, " steps"]:
        return 0.5 + 0.5 * np.cos(np.pi * np.minimum(places / width, 1.0))

    least = falling(steps)
    if total >= least.sum():
        share = (total - least.sum()) / (steps - least.sum())
        return share + (1 - share) * least
    low, high = 1e-9, float(steps)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if falling(middle).sum() >= total else (middle, high)
    return falling(high)


def best_step(run: RunRecord) -> int:
    """The step of the first evaluation of highest held-out accuracy."""
    points = [(step, interval.value) for step, interval in run.accuracies()]
    return max(points, key=lambda point: (point[1], -point[0]))[0]


def before_negative(run: RunRecord, steps: int) -> int:
    """How many steps there are before the first whose information is below 0; all if none is."""
    found = first_negative(run)
    return steps if found is None else found - 1
