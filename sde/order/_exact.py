"""Weak errors without noise, by the exact engines."""

import dataclasses
from typing import ClassVar

import numpy as np

from sde._lookup import count_steps
from sde.exact._weak_errors import compare_paths
from sde.order._method import Measurement, Method
from sde.order._question import Question

ETAS = tuple(2.0**-k for k in range(5, 10))
"""Step sizes of a measurement with exact expectations.

Added in version 0.2.0.
"""
_ROUNDING = 1e-13
# Exact sides are refined until their discretisation error is below this share of the difference:
# nothing beside the scatter that a slope's interval is made of.
_AIM = 1e-3


@dataclasses.dataclass(frozen=True)
class Exact(Method):
    """Exact expectations of both sides, for all k <= T/eta; it has no settings.

    The slope is that of the largest error, the fit c0 + c1 eta + c2 eta^2 (+ c3 eta^3) that of the
    signed terminal one. Problems of one or two coordinates; what no engine covers is refused.

    >>> import sde
    >>> sde.Comparison("quadratic", "sgd", "ode").order(Exact()).verdict
    'order 1'

    Added in version 0.2.0.
    """

    name: ClassVar[str] = "exact"
    etas: ClassVar[tuple[float, ...]] = ETAS

    def measure(self, asked: Question) -> Measurement:
        wanted = asked.observables
        signed = np.empty((len(asked.steps), len(wanted)))
        largest, resolution = np.empty_like(signed), np.empty_like(signed)
        ratio = (float("nan"), float("nan"))
        names = [g.name for g in wanted]
        for row, eta in enumerate(asked.steps):
            steps = count_steps(eta, asked.horizon)
            sides = asked.process(None, eta), asked.process(asked.equation, eta)
            tracked, model = compare_paths(*sides, wanted, steps, _AIM)
            difference = model.values - tracked.values
            signed[row] = difference[-1]
            largest[row] = np.max(np.abs(difference), axis=0)
            resolution[row] = model.errors + tracked.errors
            if "mean" in names and "m2" in names:
                mean, m2 = names.index("mean"), names.index("m2")
                of_model, of_chain = (
                    side.values[-1, m2] - side.values[-1, mean] ** 2 for side in (model, tracked)
                )
                blur = resolution[row, m2]
                blur += 2 * abs(tracked.values[-1, mean]) * resolution[row, mean]
                # A chain without noise (the full batch) has a variance of rounding only.
                if of_chain > 10 * (blur + _ROUNDING * abs(tracked.values[-1, m2])):
                    ratio = (float(of_model / of_chain), float(blur / of_chain))
        evidence = asked.evidence(signed, np.zeros_like(signed), largest, resolution, 0)
        return Measurement(evidence, ratio)
