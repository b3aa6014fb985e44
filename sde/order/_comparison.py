"""An equation held against a chain: what is asked, whatever the method that answers."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from sde import _fields as fields
from sde._chains import Chain
from sde._equations import EQUATIONS, Equation, as_eta
from sde._lookup import as_chain, as_equation, as_problem, count_steps
from sde._minibatches import check_batch
from sde.exact import Observable, as_observable, ode_floor
from sde.exact._process import Process
from sde.monte_carlo._checks import check_observables
from sde.order._exact import Exact
from sde.order._method import Method
from sde.order._report import OrderReport, report_order
from sde.order._verdict import TOLERANCE, Evidence
from sde.problems import Problem

# Discretisation error of the two ODE solutions that make a floor.
_FLOOR_BLUR = 1e-8
_EXACT = Exact()


@dataclasses.dataclass(frozen=True)
class Comparison:
    r"""The question how fast the weak error of an equation against a chain falls with the step.

    `Comparison(problem, chain, equation).order(method)` answers it; the method is `sde.Exact()` or
    `sde.MonteCarlo(...)`, and has the settings that mean something for it alone.

    Args:
        problem: a problem, its name, or `FILE.py:NAME`.
        chain: a chain, likewise.
        equation: an equation, likewise.
        observables: test functions, names or functions of theta.
        etas: at least 5 step sizes for a verdict, each dividing the horizon, coarsest first; `None`
            for those of the method.
        horizon: T.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.

    Raises:
        ValueError: a name is unknown; the message names those that exist. Or etas do not divide the
            horizon or do not decrease. Or there is no observable, or two have one name. Or the
            equation is not for this chain or problem.

    >>> report = Comparison("quadratic", "sgd", "eq7").order()
    >>> report.verdict
    'order 1'

    Added in version 0.2.0.
    """

    problem: Problem
    chain: Chain
    equation: Equation
    observables: tuple[Observable, ...]
    etas: tuple[float, ...] | None
    horizon: float
    batch_size: int
    replace: bool

    def __init__(
        self,
        problem: str | Problem,
        chain: str | Chain,
        equation: str | Equation,
        *,
        observables: Sequence[str | Callable[..., Any] | Observable] = ("mean", "m2", "cos3x"),
        etas: Sequence[float] | None = None,
        horizon: float = 1.0,
        batch_size: int = 1,
        replace: bool = True,
    ) -> None:
        fill = {
            "problem": as_problem(problem),
            "chain": as_chain(chain),
            "equation": as_equation(equation),
            "observables": _functions(observables),
            "etas": None if etas is None else _steps(etas, horizon),
            "horizon": horizon,
            "batch_size": batch_size,
            "replace": replace,
        }
        for name, value in fill.items():
            object.__setattr__(self, name, value)
        check_batch(self.problem.num_examples, batch_size, replace)
        check_observables(self.observables, self.problem.dim)
        self.equation.check(self.problem, self.chain)
        for eta in self.etas or ():
            self.chain.check(self.problem, eta)

    def order(self, method: Method = _EXACT, *, tolerance: float = TOLERANCE) -> OrderReport:
        r"""Measures the weak order, and says what the measurement is worth.

        A verdict follows one rule (`sde.order.classify_order`) and rests on all observables; the
        worst counts. Four traps are refused, with "undecided" and the reason:

        * One substep without extrapolation. Euler with dt = eta *is* SGD with Gaussian noise, so it
          measures the scheme and not the equation. Without extrapolation no number of substeps
          tells order 2 from 1.
        * The mean alone. It is blind to the diffusion when the drift is linear. A confirmation
          needs "m2" and a third observable: "cos3x", or "m3" or "m4" where an engine has moments
          only.
        * A Monte Carlo error larger than what it should resolve. It names the paths that would do.
        * An order-0 verdict that the ODE floor does not confirm.

        Args:
            method: `sde.Exact()` or `sde.MonteCarlo(...)`.
            tolerance: equivalence bound of a coefficient that should vanish, as a fraction.

        Returns:
            an `OrderReport`.

        Raises:
            TypeError: a method that is none.
            ValueError: a process that no exact engine covers, a solver that cannot take the noise,
                a diffusion matrix that is no covariance; all before anything is measured.
            FloatingPointError: a path did not stay finite.

        >>> import jax, sde
        >>> quick = sde.MonteCarlo(paths=64, key=jax.random.key(0))
        >>> sde.Comparison("quadratic", "sgd", "eq7", etas=[1 / 2, 1 / 4]).order(quick).verdict
        'undecided'
        """
        if not isinstance(method, Method):
            raise PGPOTypeError(
                "method must be sde.Exact() or sde.MonteCarlo(...), got "
                + (f"the class {method.__name__}" if isinstance(method, type) else repr(method))
            )
        asked = self if self.etas is not None else self.at(method.etas)
        return report_order(asked, method, tolerance)

    def at(self, etas: Sequence[float]) -> "Comparison":
        """The same question at other step sizes."""
        return Comparison(
            self.problem,
            self.chain,
            self.equation,
            observables=self.observables,
            etas=etas,
            horizon=self.horizon,
            batch_size=self.batch_size,
            replace=self.replace,
        )

    @property
    def steps(self) -> tuple[float, ...]:
        """The step sizes, once a method has said them."""
        assert self.etas is not None
        return self.etas

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
                np.asarray(self.steps),
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


def _functions(
    observables: Sequence[str | Callable[..., Any] | Observable],
) -> tuple[Observable, ...]:
    functions = tuple(as_observable(g) for g in observables)
    if not functions:
        raise PGPOValueError("observables must name at least one test function, got none")
    if len({g.name for g in functions}) < len(functions):
        raise PGPOValueError(
            f"observables must have distinct names, got {[g.name for g in functions]}"
        )
    return functions


def _steps(etas: Sequence[float], horizon: float) -> tuple[float, ...]:
    found = tuple(as_eta(eta) for eta in etas)
    if not found:
        raise PGPOValueError("etas must hold step sizes, got none")
    for eta in found:
        count_steps(eta, horizon)
    if any(fine >= coarse for coarse, fine in itertools.pairwise(found)):
        raise PGPOValueError(f"etas must decrease, got {found}")
    return found
