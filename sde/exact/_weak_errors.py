"""The exact weak errors of an equation against a chain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pgpo_jax.errors import PGPOValueError
from sde._chains import Chain
from sde._equations import Equation, as_eta
from sde._lookup import count_steps
from sde.exact._expectation import make_process
from sde.exact._observables import Observable, as_observable
from sde.exact._process import Process
from sde.exact._solve import ExactPath, exact_path
from sde.problems import Problem

# Refinement stops when the discretisation error is below this share of what is measured.
_AIM = 0.01
# An answer is refused when its discretisation error exceeds this share of what is measured.
_SHARE = 0.05
# Differences below this are rounding.
_ROUNDING = 1e-11


@dataclass(frozen=True)
class WeakErrors:
    """The errors of an equation for a chain, per step size and observable.

    Attributes:
        etas: step sizes.
        observables: names.
        terminal: signed E g(X_T) - E g(theta_K), `[etas, observables]`.
        largest: max over k <= T / eta of |E g(X_{k eta}) - E g(theta_k)|, same shape.
        discretisation: error of these differences from a second resolution, same shape.
        chain: E g(theta_K), same shape.
        equation: E g(X_T), same shape.
    """

    etas: tuple[float, ...]
    observables: tuple[str, ...]
    terminal: Float[np.ndarray, "E O"]
    largest: Float[np.ndarray, "E O"]
    discretisation: Float[np.ndarray, "E O"]
    chain: Float[np.ndarray, "E O"]
    equation: Float[np.ndarray, "E O"]


def weak_errors(
    problem: str | Problem,
    chain: str | Chain,
    equation: str | Equation,
    *,
    etas: Sequence[float],
    observables: Sequence[str | Callable | Observable] = ("mean", "m2", "cos3x"),
    horizon: float = 1.0,
    batch_size: int = 1,
    replace: bool = True,
) -> WeakErrors:
    """Exact weak errors of an equation against a chain.

    Args:
        problem: a name in `sde.PROBLEMS`, or an object.
        chain: a name in `sde.CHAINS`, or an object.
        equation: a name in `sde.EQUATIONS`, or an object.
        etas: step sizes, each dividing the horizon.
        observables: names or functions of theta.
        horizon: T.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.

    Returns:
        `WeakErrors`.

    Raises:
        ValueError: as `exact_expectation`; or the discretisation error is above a twentieth of the
            largest difference over k and above 1e-11. The difference would then be an artefact.
    """
    wanted = tuple(as_observable(o) for o in observables)
    etas = [as_eta(eta) for eta in etas]
    steps = [count_steps(eta, horizon) for eta in etas]
    out = np.empty((5, len(steps), len(wanted)))
    for row, (eta, count) in enumerate(zip(etas, steps, strict=True)):
        follow = make_process(problem, chain, None, eta, batch_size, replace)
        model_process = make_process(problem, chain, equation, eta, batch_size, replace)
        tracked, model = compare_paths(follow, model_process, wanted, count, _AIM)
        difference = model.values - tracked.values
        out[0, row] = difference[-1]
        out[1, row] = np.max(np.abs(difference), axis=0)
        out[2, row] = model.errors + tracked.errors
        out[3, row], out[4, row] = tracked.values[-1], model.values[-1]
        for k, observable in enumerate(wanted):
            if out[2, row, k] > max(_SHARE * out[1, row, k], _ROUNDING):
                raise PGPOValueError(
                    f"the discretisation error {out[2, row, k]:.1e} is not far below the "
                    f"difference {out[1, row, k]:.1e} in E {observable.name} at eta={eta!r}: "
                    "refused, because the difference would be an artefact. Use larger etas or "
                    "another observable."
                )
    names = tuple(o.name for o in wanted)
    return WeakErrors(tuple(float(e) for e in etas), names, *out)


def compare_paths(
    follow: Process, model_process: Process, wanted: tuple[Observable, ...], count: int, aim: float
) -> tuple[ExactPath, ExactPath]:
    """Both sides, each refined until its error is below `aim` of their difference."""
    for tolerance in (1e-5, 1e-7, 1e-9, 1e-11):
        tracked = exact_path(follow, wanted, count, tolerance)

        def allowed(values, columns, tracked=tracked):
            measured = np.max(np.abs(values - tracked.values[:, columns]), axis=0)
            return np.maximum(aim * measured, _ROUNDING)

        model = exact_path(
            model_process,
            wanted,
            count,
            enough=lambda v, e, c, allowed=allowed: bool(np.all(e <= allowed(v, c))),
        )
        if np.all(tracked.errors <= allowed(model.values, list(range(len(wanted))))):
            break
    return tracked, model
