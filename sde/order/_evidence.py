"""The weak errors themselves, by the exact engines or by Monte Carlo."""

import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from sde import _fields as fields
from sde._chains import Chain
from sde._equations import EQUATIONS, Equation
from sde._lookup import count_steps
from sde.exact import OBSERVABLES, Observable, ode_floor
from sde.exact._process import Process
from sde.exact._solve import exact_path
from sde.exact._weak_errors import compare_paths
from sde.monte_carlo import estimate_chain, estimate_equation
from sde.order._verdict import Evidence
from sde.problems import Problem

_FIRST = OBSERVABLES["mean"]
# Discretisation error of the two ODE solutions that make a floor.
_FLOOR_BLUR = 1e-8

_ROUNDING = 1e-13
# Exact sides are refined until their discretisation error is below this share of the difference:
# nothing beside the scatter that a slope's interval is made of.
_AIM = 1e-3


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An equation held against a chain: what is measured, whatever the method.

    Added in version 0.2.0.
    """

    problem: Problem
    chain: Chain
    equation: Equation
    observables: tuple[Observable, ...]
    etas: tuple[float, ...]
    horizon: float
    batch_size: int
    replace: bool

    def process(self, equation: Equation | None, eta: float) -> Process:
        """The chain (`equation=None`) or an equation at one step size."""
        return Process(self.problem, self.chain, equation, eta, self.batch_size, self.replace)

    def noise_free(self) -> Process:
        """The chain's limit without noise, over the whole horizon at once; the equation's, where
        the chain has none."""
        try:
            self.chain.check_limit(self.problem)
            still = EQUATIONS["ode"]
        except ValueError:
            still = dataclasses.replace(self.equation, diffusion=fields.diffusion_none)
        return self.process(still, self.horizon)

    def floor(self, observable: Observable) -> float | None:
        """The limit of the error, where it can be had without Monte Carlo."""
        try:
            return ode_floor(
                self.problem,
                self.chain,
                self.equation,
                observable,
                horizon=self.horizon,
                batch_size=self.batch_size,
                replace=self.replace,
            )
        except ValueError:
            # A printed diffusion without its sqrt(eta) leaves a real expectation as the limit, and
            # not every problem has an exact engine for that: no order-0 verdict is given then.
            return None

    def evidence(
        self,
        signed: Float[np.ndarray, "E O"],
        errors: Float[np.ndarray, "E O"],
        largest: Float[np.ndarray, "E O"] | None,
        resolution: Float[np.ndarray, "E O"],
        paths: int,
    ) -> list[Evidence]:
        """One `Evidence` per observable, with its floor."""
        return [
            Evidence(
                g.name,
                np.asarray(self.etas),
                signed[:, k],
                errors[:, k],
                None if largest is None else largest[:, k],
                resolution[:, k],
                self.floor(g),
                _FLOOR_BLUR,
                paths,
            )
            for k, g in enumerate(self.observables)
        ]


def exact_evidence(asked: Comparison) -> tuple[list[Evidence], tuple[float, float]]:
    """Errors without noise; and the ratio of Var/eta at the finest eta, with its error."""
    wanted = asked.observables
    signed = np.empty((len(asked.etas), len(wanted)))
    largest, resolution = np.empty_like(signed), np.empty_like(signed)
    ratio = (float("nan"), float("nan"))
    names = [g.name for g in wanted]
    for row, eta in enumerate(asked.etas):
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
            blur = resolution[row, m2] + 2 * abs(tracked.values[-1, mean]) * resolution[row, mean]
            # A chain without noise (the full batch) has a variance of rounding only.
            if of_chain > 10 * (blur + _ROUNDING * abs(tracked.values[-1, m2])):
                ratio = (float(of_model / of_chain), float(blur / of_chain))
    return asked.evidence(signed, np.zeros_like(signed), largest, resolution, 0), ratio


def monte_carlo_evidence(
    asked: Comparison,
    *,
    paths: int,
    key: PRNGKeyArray,
    substeps: int,
    richardson: bool,
    solver: str,
    control_variate: bool,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[Evidence], tuple[float, float], dict[str, np.ndarray]]:
    """Signed errors with standard errors; the ratio of Var/eta at the finest eta, with its; and
    how much the controls cut the chain's variance, by observable."""
    # Centred near the mean, so that the variance is not the difference of two large numbers.
    centre = float(exact_path(asked.noise_free(), (_FIRST,), 1, 1e-6).values[-1, 0])
    spread = Observable("spread", lambda theta: (theta[0] - centre) ** 2)
    size, wanted = len(asked.observables), (*asked.observables, _FIRST, spread)
    signed, errors, gains = np.empty((3, len(asked.etas), size))
    ratio = (float("nan"), float("nan"))
    tell = progress or (lambda told: None)
    tell(f"{len(asked.etas)} step sizes, {paths} paths each; the first compiles")
    for row, eta in enumerate(asked.etas):
        begun = time.perf_counter()
        rung = jax.random.fold_in(key, row)
        shared = {
            "eta": eta,
            "horizon": asked.horizon,
            "paths": paths,
            "batch_size": asked.batch_size,
            "replace": asked.replace,
            "control_variate": control_variate,
        }
        tracked = estimate_chain(
            asked.problem, asked.chain, wanted, key=jax.random.fold_in(rung, 0), **shared
        )
        between = time.perf_counter()
        model = estimate_equation(
            asked.problem,
            asked.equation,
            wanted,
            chain=asked.chain,
            key=jax.random.fold_in(rung, 1),
            substeps=substeps,
            richardson=richardson,
            solver=solver,
            **shared,
        )
        tell(
            f"{row + 1} of {len(asked.etas)}, eta={eta:g}: chain {between - begun:.1f} s, equation "
            f"{time.perf_counter() - between:.1f} s"
        )
        signed[row] = (model.values - tracked.values)[:size]
        errors[row] = np.hypot(model.standard_errors, tracked.standard_errors)[:size]
        gains[row] = tracked.gain[:size]
        sides = [e.values[-1] - (e.values[-2] - centre) ** 2 for e in (model, tracked)]
        relative = [
            e.standard_errors[-1] / side for e, side in zip((model, tracked), sides, strict=True)
        ]
        value = sides[0] / sides[1]
        ratio = (float(value), float(value * np.hypot(*relative)))
    evidence = asked.evidence(signed, errors, None, np.zeros_like(signed), paths)
    return evidence, ratio, {g.name: gains[:, k] for k, g in enumerate(asked.observables)}
