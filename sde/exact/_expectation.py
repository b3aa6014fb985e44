"""Expectations of a chain or an equation, and the processes that questions are about."""

from collections.abc import Callable

from jaxtyping import ScalarLike

from pgpo_jax._files import is_object_spec, load_object
from pgpo_jax.errors import PGPOValueError
from sde._chains import Chain
from sde._equations import EQUATIONS, Equation, as_eta
from sde._lookup import as_chain, as_equation, as_problem, count_steps
from sde._minibatches import check_batch
from sde._named_chains import CHAINS
from sde.exact._observables import Observable, as_observable
from sde.exact._process import Process
from sde.exact._solve import exact_path
from sde.problems import Problem


def make_process(problem, chain, equation, eta, batch_size, replace) -> Process:
    """A process from names or objects; combinations without a meaning are refused."""
    problem, chain = as_problem(problem), as_chain(chain)
    check_batch(problem.num_examples, batch_size, replace)
    chain.check(problem, float(eta))
    if equation is not None:
        equation = as_equation(equation)
        equation.check(problem, chain)
    return Process(problem, chain, equation, float(eta), batch_size, replace)


def _named(problem, process, chain, eta, batch_size, replace) -> Process:
    if isinstance(process, str) and is_object_spec(process):
        process = load_object(process)
    if isinstance(process, Chain) or process in CHAINS:
        if chain is not None:
            raise PGPOValueError(f"chain belongs to an equation, but {process!r} is a chain itself")
        return make_process(problem, process, None, eta, batch_size, replace)
    if not isinstance(process, Equation) and process not in EQUATIONS:
        raise PGPOValueError(
            f"unknown process {process!r}; chains: {', '.join(CHAINS)}; equations: "
            f"{', '.join(EQUATIONS)}"
        )
    equation = as_equation(process)
    if chain is None:
        if equation.name not in _OWN_CHAIN:
            raise PGPOValueError(
                f"{equation.name!r} is built from a chain's drift and covariance: pass chain=, one "
                f"of {', '.join(CHAINS)}"
            )
        chain = _OWN_CHAIN[equation.name]
    return make_process(problem, chain, equation, eta, batch_size, replace)


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
    eta: ScalarLike,
    horizon: float = 1.0,
    chain: str | Chain | None = None,
    batch_size: int = 1,
    replace: bool = True,
    tolerance: float = 1e-10,
) -> tuple[float, float]:
    """`exact_expectation` together with its discretisation error.

    Returns:
        The value, and its change from the last but one resolution.

    >>> value, error = exact_value("quadratic", "sgd", "mean", eta=1 / 8)
    >>> error < 1e-9
    True
    """
    eta = as_eta(eta)
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
    eta: ScalarLike,
    horizon: float = 1.0,
    chain: str | Chain | None = None,
    batch_size: int = 1,
    replace: bool = True,
    tolerance: float = 1e-6,
) -> float:
    r"""$E\,g(\theta)$ at the horizon, for a chain or an equation, without Monte Carlo.

    The engine depends on the process. Closed moments cover processes that are affine in theta, with
    a polynomial g. Spectral backward recursion and the exponential of the generator cover one
    coordinate. Powers times a grid cover processes that are affine given a second coordinate, such
    as the running mean on the quadratic and the sliding kink. A Fourier engine covers the torus.
    Processes without noise use an ODE solver.

    Args:
        problem: a name of `PROBLEMS`, or a problem.
        process: a name of `CHAINS` or `EQUATIONS`, or one of those.
        observable: "mean", "m2", "m3", "m4" (powers of theta[0]), "cos3x", or a function of theta.
        eta: step size; must divide the horizon.
        horizon: T, so that a chain takes T / eta steps.
        chain: the chain that an equation is meant to track; needed where it decides b or S.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.
        tolerance: largest discretisation error that is accepted.

    Returns:
        The expectation.

    Raises:
        ValueError: a name is unknown, eta does not divide the horizon, no engine covers the
            combination, or the discretisation error exceeds `tolerance`.

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
        raise PGPOValueError(
            f"the discretisation error {error:.1e} of E {as_observable(observable).name} exceeds "
            f"tolerance={tolerance:.1e}; no finer resolution is available"
        )
    return value
