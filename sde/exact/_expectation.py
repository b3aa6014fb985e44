"""The public questions: an expectation, the error of an equation, the floor of an error."""

import dataclasses
import functools as ft
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sde import _fields as fields
from sde._chains import CHAINS, Chain
from sde._equations import EQUATIONS, Equation
from sde._lookup import as_chain, as_equation, as_problem, count_steps
from sde._minibatches import check_batch
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


def _process(problem, chain, equation, eta, batch_size, replace) -> Process:
    problem, chain = as_problem(problem), as_chain(chain)
    try:
        hash(problem)
    except TypeError:
        raise TypeError(
            f"{type(problem).__name__} must be hashable: give its fields as numbers and tuples, "
            "not arrays"
        ) from None
    check_batch(problem.num_examples, batch_size, replace)
    if equation is not None:
        equation = as_equation(equation)
        equation.check(problem, chain)
    return Process(problem, chain, equation, float(eta), batch_size, replace)


def _named(problem, process, chain, eta, batch_size, replace) -> Process:
    if isinstance(process, Chain) or process in CHAINS:
        if chain is not None:
            raise ValueError(f"chain belongs to an equation, but {process!r} is a chain itself")
        return _process(problem, process, None, eta, batch_size, replace)
    if not isinstance(process, Equation) and process not in EQUATIONS:
        raise ValueError(
            f"unknown process {process!r}; chains: {', '.join(CHAINS)}; equations: "
            f"{', '.join(EQUATIONS)}"
        )
    equation = as_equation(process)
    if chain is None:
        if equation.name not in _OWN_CHAIN:
            raise ValueError(
                f"{equation.name!r} is built from a chain's drift and covariance: pass chain=, one "
                f"of {', '.join(CHAINS)}"
            )
        chain = _OWN_CHAIN[equation.name]
    return _process(problem, chain, equation, eta, batch_size, replace)


# Equations whose coefficients do not depend on the chain.
_OWN_CHAIN = {
    "eq7": "sgd",
    "thm2i_literal": "sgd",
    "thm2ii": "pgpo_population",
    "thm2ii_literal": "pgpo_population",
    "consistent": "pgpo_population",
    "jensen": "pgpo_minibatch",
}


def exact_value(
    problem: str | Problem,
    process: str | Chain | Equation,
    observable: str | Callable | Observable,
    *,
    eta: float,
    horizon: float = 1.0,
    chain: str | Chain | None = None,
    batch_size: int = 1,
    replace: bool = True,
    tolerance: float = 1e-10,
) -> tuple[float, float]:
    """`exact_expectation` together with its discretisation error.

    Returns:
        The value, and how much it changed from the last but one resolution.
    """
    steps = count_steps(eta, horizon)
    path = exact_path(
        _named(problem, process, chain, eta, batch_size, replace),
        (as_observable(observable),),
        steps,
        tolerance,
    )
    return float(path.values[-1, 0]), float(path.errors[0])


def exact_expectation(
    problem: str | Problem,
    process: str | Chain | Equation,
    observable: str | Callable | Observable,
    *,
    eta: float,
    horizon: float = 1.0,
    chain: str | Chain | None = None,
    batch_size: int = 1,
    replace: bool = True,
    tolerance: float = 1e-6,
) -> float:
    r"""$E\,g(\theta)$ at the horizon, for a chain or an equation, without Monte Carlo.

    Engines, by what the process is: closed moments (affine in theta, polynomial g), spectral
    backward recursion and generator exponential (one coordinate), powers times a grid (affine given
    a second coordinate: the running mean on the quadratic, the sliding kink), Fourier (torus), and
    an ODE solver where there is no noise.

    Args:
        problem: a name of `PROBLEMS`, or a problem.
        process: a name of `CHAINS` or `EQUATIONS`, or one of those.
        observable: "mean", "m2", "m3", "m4" (powers of theta[0]), "cos3x", or a function of theta.
        eta: step size; must divide the horizon.
        horizon: T, so that a chain takes T / eta steps.
        chain: the chain that an equation is meant to track; needed where it decides b or S.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.
        tolerance: the largest discretisation error that is accepted.

    Returns:
        The expectation.

    Raises:
        ValueError: unknown names; an eta that does not divide the horizon; a combination that no
            engine covers; an answer whose discretisation error exceeds `tolerance`.

    >>> import sde
    >>> round(sde.exact_expectation("quadratic", "sgd", "mean", eta=1 / 8), 12)
    0.366723954757
    """
    value, error = exact_value(
        problem,
        process,
        observable,
        eta=eta,
        horizon=horizon,
        chain=chain,
        batch_size=batch_size,
        replace=replace,
        tolerance=min(tolerance, 1e-10),
    )
    if not error <= tolerance:
        raise ValueError(
            f"the discretisation error {error:.1e} of E {as_observable(observable).name} exceeds "
            f"tolerance={tolerance:.1e}; no finer resolution is available"
        )
    return value


@dataclass(frozen=True)
class WeakErrors:
    """What an equation gets wrong about a chain, per step size and observable.

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
        problem, chain, equation: names or objects.
        etas: step sizes, each dividing the horizon.
        observables: names or functions of theta.
        horizon: T.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.

    Returns:
        `WeakErrors`.

    Raises:
        ValueError: as `exact_expectation`; or a discretisation error above a twentieth of the
            largest difference over k (and above 1e-11): the difference would be an artefact.
    """
    wanted = tuple(as_observable(o) for o in observables)
    steps = [count_steps(eta, horizon) for eta in etas]
    out = np.empty((5, len(steps), len(wanted)))
    for row, (eta, count) in enumerate(zip(etas, steps, strict=True)):
        follow = _process(problem, chain, None, eta, batch_size, replace)
        model_process = _process(problem, chain, equation, eta, batch_size, replace)
        tracked, model = _compare(follow, model_process, wanted, count)
        difference = model.values - tracked.values
        out[0, row] = difference[-1]
        out[1, row] = np.max(np.abs(difference), axis=0)
        out[2, row] = model.errors + tracked.errors
        out[3, row], out[4, row] = tracked.values[-1], model.values[-1]
        for k, observable in enumerate(wanted):
            if out[2, row, k] > max(_SHARE * out[1, row, k], _ROUNDING):
                raise ValueError(
                    f"the discretisation error {out[2, row, k]:.1e} is not far below the "
                    f"difference {out[1, row, k]:.1e} in E {observable.name} at eta={eta!r}: "
                    "refused, because the difference would be an artefact. Use larger etas or "
                    "another observable."
                )
    names = tuple(o.name for o in wanted)
    return WeakErrors(tuple(float(e) for e in etas), names, *out)


def _compare(follow, model_process, wanted, count) -> tuple[ExactPath, ExactPath]:
    """Both sides, each refined until its error is small beside their difference."""
    for tolerance in (1e-5, 1e-7, 1e-9, 1e-11):
        tracked = exact_path(follow, wanted, count, tolerance)

        def allowed(values, columns, tracked=tracked):
            measured = np.max(np.abs(values - tracked.values[:, columns]), axis=0)
            return np.maximum(_AIM * measured, _ROUNDING)

        model = exact_path(
            model_process,
            wanted,
            count,
            enough=lambda v, e, c, allowed=allowed: bool(np.all(e <= allowed(v, c))),
        )
        if np.all(tracked.errors <= allowed(model.values, list(range(len(wanted))))):
            break
    return tracked, model


def ode_floor(
    problem: str | Problem,
    chain: str | Chain,
    equation: str | Equation,
    observable: str | Callable | Observable,
    *,
    horizon: float = 1.0,
    batch_size: int = 1,
    replace: bool = True,
) -> float:
    r"""The limit of $E g(X_T) - E g(\theta_K)$ as eta goes to zero: what order 0 leaves behind.

    Both sides become deterministic, $g(x_T) - g(y_T)$ with $\dot x = b_{eq}(x)$ and
    $\dot y = b_{chain}(y)$: two ODE solves, in any dimension. A printed diffusion without its
    $\sqrt\eta$ does not vanish; its side is then an exact expectation.

    Args:
        problem, chain, equation: names or objects.
        observable: a name or a function of theta.
        horizon: T.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.

    Returns:
        The signed floor; zero (to 1e-9) means that the equation is of order > 0.

    >>> import sde
    >>> round(sde.ode_floor("student_teacher", "pgpo_minibatch", "thm2ii", "mean"), 5)
    -0.20454
    """
    observable = as_observable(observable)
    tracked = _process(problem, chain, "ode", 1.0, batch_size, replace)
    model = _process(problem, chain, equation, 1.0, batch_size, replace)
    at_zero = _limit(model.equation)
    model = dataclasses.replace(model, equation=at_zero)
    coarse = horizon / 16
    count = 16
    sides = [
        exact_path(dataclasses.replace(side, eta=coarse), (observable,), count, 1e-9)
        for side in (model, tracked)
    ]
    return float(sides[0].values[-1, 0] - sides[1].values[-1, 0])


@ft.lru_cache(maxsize=64)
def _limit(equation: Equation) -> Equation:
    """The equation at eta = 0."""

    def drift(chain, setting, state):
        return equation.drift(chain, dataclasses.replace(setting, eta=0.0 * setting.eta), state)

    if equation.diffusion is fields.diffusion_literal:
        diffusion = equation.diffusion
    else:
        diffusion = fields.diffusion_none
    return dataclasses.replace(equation, drift=drift, diffusion=diffusion)
