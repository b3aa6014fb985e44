"""The weak errors themselves, by the exact engines or by Monte Carlo."""

import functools as ft
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from ._chains import Chain
from ._equations import EQUATIONS, Equation
from ._lookup import count_steps
from ._order_verdict import Evidence
from ._simulate_expectation import estimate_chain, estimate_equation
from .exact import OBSERVABLES, Observable, ode_floor
from .exact._process import Process
from .exact._solve import ExactPath, exact_path
from .problems import Problem

_FIRST = OBSERVABLES["mean"]

# Statements share chains: one chain is followed once, however many equations claim to track it.
_followed = ft.lru_cache(maxsize=512)(exact_path)


def _floor(
    problem: Problem,
    chain: Chain,
    equation: Equation,
    observable: Observable,
    horizon: float,
    batch_size: int,
    replace: bool,
) -> float | None:
    try:
        return ode_floor(
            problem,
            chain,
            equation,
            observable,
            horizon=horizon,
            batch_size=batch_size,
            replace=replace,
        )
    except ValueError:
        # A printed diffusion without its sqrt(eta) leaves a real expectation as the limit, and not
        # every problem has an exact engine for that: then no order-0 verdict is given.
        return None


def exact_evidence(
    problem: Problem,
    chain: Chain,
    equation: Equation,
    observables: Sequence[Observable],
    etas: Sequence[float],
    *,
    horizon: float,
    batch_size: int,
    replace: bool,
    tolerance: float,
) -> tuple[list[Evidence], tuple[float, float]]:
    """Errors without noise; and the ratio of Var/eta at the finest eta, with its error."""
    wanted = tuple(observables)
    signed = np.empty((len(etas), len(wanted)))
    largest, resolution = np.empty_like(signed), np.empty_like(signed)
    ratio = (float("nan"), float("nan"))
    names = [g.name for g in wanted]
    for row, eta in enumerate(etas):
        steps = count_steps(eta, horizon)

        def path(model: Equation | None, eta: float = eta, steps: int = steps) -> ExactPath:
            process = Process(problem, chain, model, float(eta), batch_size, replace)
            return _followed(process, wanted, steps, tolerance)

        tracked, model = path(None), path(equation)
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
            ratio = (float(of_model / of_chain), float(blur / of_chain))
    nothing = np.zeros(len(etas))
    evidence = [
        Evidence(
            g.name,
            np.asarray(etas, dtype=float),
            signed[:, k],
            nothing,
            largest[:, k],
            resolution[:, k],
            _floor(problem, chain, equation, g, horizon, batch_size, replace),
            1e-8,
            0,
        )
        for k, g in enumerate(wanted)
    ]
    return evidence, ratio


def monte_carlo_evidence(
    problem: Problem,
    chain: Chain,
    equation: Equation,
    observables: Sequence[Observable],
    etas: Sequence[float],
    *,
    horizon: float,
    batch_size: int,
    replace: bool,
    paths: int,
    key: PRNGKeyArray,
    substeps: int,
    richardson: bool,
    solver: str,
    control_variate: bool,
) -> tuple[list[Evidence], tuple[float, float]]:
    """Signed errors with standard errors; and the ratio of Var/eta at the finest eta, with its."""
    # Centred near the mean, so that the variance is not the difference of two large numbers.
    ode = Process(problem, chain, EQUATIONS["ode"], horizon, batch_size, replace)
    centre = float(exact_path(ode, (_FIRST,), 1, 1e-6).values[-1, 0])
    spread = Observable("spread", lambda theta: (theta[0] - centre) ** 2)
    wanted = (*observables, _FIRST, spread)
    signed, errors = np.empty((2, len(etas), len(observables)))
    ratio = (float("nan"), float("nan"))
    for row, eta in enumerate(etas):
        rung = jax.random.fold_in(key, row)
        shared = {
            "eta": float(eta),
            "horizon": horizon,
            "paths": paths,
            "batch_size": batch_size,
            "replace": replace,
            "control_variate": control_variate,
        }
        tracked = estimate_chain(problem, chain, wanted, key=jax.random.fold_in(rung, 0), **shared)
        model = estimate_equation(
            problem,
            equation,
            wanted,
            chain=chain,
            key=jax.random.fold_in(rung, 1),
            substeps=substeps,
            richardson=richardson,
            solver=solver,
            **shared,
        )
        size = len(observables)
        signed[row] = (model.values - tracked.values)[:size]
        errors[row] = np.hypot(model.standard_errors, tracked.standard_errors)[:size]
        sides = [e.values[-1] - (e.values[-2] - centre) ** 2 for e in (model, tracked)]
        relative = [
            e.standard_errors[-1] / side for e, side in zip((model, tracked), sides, strict=True)
        ]
        value = sides[0] / sides[1]
        ratio = (float(value), float(value * np.hypot(*relative)))
    nothing = np.zeros(len(etas))
    evidence = [
        Evidence(
            g.name,
            np.asarray(etas, dtype=float),
            signed[:, k],
            errors[:, k],
            None,
            nothing,
            _floor(problem, chain, equation, g, horizon, batch_size, replace),
            1e-8,
            paths,
        )
        for k, g in enumerate(observables)
    ]
    return evidence, ratio
