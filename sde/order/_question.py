"""What is asked of an equation and a chain, whatever the method that answers."""

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
from sde._lookup import as_chain, as_equation, as_problem, check_horizon, count_steps
from sde._minibatches import check_batch
from sde.exact import Observable, as_observable, ode_floor
from sde.exact._process import Process
from sde.monte_carlo._checks import check_observables
from sde.order._verdict import Evidence
from sde.problems import Problem

# Discretisation error of the two ODE solutions that make a floor.
_FLOOR_BLUR = 1e-8


@dataclasses.dataclass(frozen=True)
class Question:
    """A problem, a chain and an equation, and what is asked of them; see `sde.Comparison`."""

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
        check_horizon(horizon)
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

    def at(self, etas: Sequence[float]) -> "Question":
        """The same question at other step sizes."""
        return type(self)(
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
    if isinstance(observables, str):
        raise PGPOTypeError(
            f"observables must be a sequence of test functions, such as [{observables!r}], got the "
            f"string {observables!r}"
        )
    functions = tuple(as_observable(g) for g in observables)
    if not functions:
        raise PGPOValueError("observables must name at least one test function, got none")
    if len({g.name for g in functions}) < len(functions):
        raise PGPOValueError(
            f"observables must have distinct names, got {[g.name for g in functions]}; name a "
            "function with sde.exact.Observable(name, function)"
        )
    return functions


def _steps(etas: Sequence[float], horizon: float) -> tuple[float, ...]:
    if isinstance(etas, int | float):
        raise PGPOTypeError(f"etas must be a sequence of step sizes, got the number {etas}")
    found = tuple(as_eta(eta) for eta in etas)
    if not found:
        raise PGPOValueError("etas must hold step sizes, got none")
    for eta in found:
        count_steps(eta, horizon)
    if any(fine >= coarse for coarse, fine in itertools.pairwise(found)):
        raise PGPOValueError(f"etas must decrease, got {found}")
    return found
