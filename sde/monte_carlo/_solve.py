"""One diffrax solve of a whole ensemble, and the same Euler steps by a plain `lax.scan`.

Time is counted in steps. With s = t/h the equation dX = b dt + sigma dW becomes dX = h b ds +
sqrt(h) sigma dW(s). So step times are integers, exact in floating point. Two programs with equal
steps see the same Brownian increments.
"""

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from pgpo_jax.errors import PGPOValueError


class SolverKind(NamedTuple):
    """Properties of a diffrax solver that the laboratory needs.

    `stratonovich`: it converges to the Stratonovich reading of the noise, so its drift must be
    corrected. `levy_area`: it asks for space-time Levy area. `additive`: it takes only noise that
    does not depend on the state. `commutative`: its weak order is lost when the columns of sigma
    do not commute.
    """

    build: Callable[[], diffrax.AbstractSolver]
    stratonovich: bool
    levy_area: bool = False
    additive: bool = False
    commutative: bool = False


SOLVERS = MappingProxyType(
    {
        "euler": SolverKind(diffrax.Euler, stratonovich=False),
        "euler_heun": SolverKind(diffrax.EulerHeun, stratonovich=True),
        "heun": SolverKind(diffrax.Heun, stratonovich=True),
        "midpoint": SolverKind(diffrax.Midpoint, stratonovich=True),
        "ralston": SolverKind(diffrax.Ralston, stratonovich=True),
        "spark": SolverKind(diffrax.SPaRK, stratonovich=True, levy_area=True),
        "general_shark": SolverKind(diffrax.GeneralShARK, stratonovich=True, levy_area=True),
        "slow_rk": SolverKind(diffrax.SlowRK, stratonovich=True, levy_area=True, commutative=True),
        "sra1": SolverKind(diffrax.SRA1, stratonovich=False, levy_area=True, additive=True),
        "shark": SolverKind(diffrax.ShARK, stratonovich=True, levy_area=True, additive=True),
        "sea": SolverKind(diffrax.SEA, stratonovich=True, levy_area=True, additive=True),
    }
)
"""diffrax's solvers by name, with the kind of noise that each one takes."""

Field = Callable[[PyTree[Array]], PyTree[Array]]
Operator = Callable[[PyTree[Array]], lx.AbstractLinearOperator]


class SummedBrownianPath(diffrax.AbstractBrownianPath):
    """The path of a finer solve, read in steps of two: `W(s+2) - W(s)` as the sum of its halves."""

    fine: diffrax.UnsafeBrownianPath
    # diffrax declares these as mutable class variables, which no override can narrow.
    t0: Any = -math.inf
    t1: Any = math.inf
    levy_area: Any = eqx.field(static=True, default=diffrax.BrownianIncrement)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        if use_levy or t1 is None:
            raise PGPOValueError("a summed path has increments only, no Levy area")
        middle = t0 + (t1 - t0) / 2
        halves: Any = self.fine.evaluate(t0, middle), self.fine.evaluate(middle, t1)
        return halves[0] + halves[1]


class WholeSteps(diffrax.AbstractStepSizeController):
    """Steps of `stride`, whatever the end: unlike `StepTo`, one program serves every length."""

    stride: int = eqx.field(static=True)

    def wrap(self, direction: Any) -> "WholeSteps":
        return self

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        return t0 + self.stride, None

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        # Whole numbers in floating point: the sum is exact.
        return True, t1, t1 + self.stride, False, None, diffrax.RESULTS.successful


def solve(
    drift: Field,
    operator: Operator,
    y0: PyTree[Array],
    brownian: diffrax.AbstractBrownianPath,
    steps: int | Int[Array, ""],
    stride: int,
    solver: str,
) -> PyTree[Array]:
    """Integrates `dY = drift(Y) ds + operator(Y) dW` over `steps` units of s by one `diffeqsolve`.

    Args:
        drift: the whole state to its derivative.
        operator: the state to the lineax operator that takes increments [paths, d] to its change.
        y0: the ensemble, a pytree.
        brownian: increments of shape [paths, d].
        steps: length of the integration in units of s, a multiple of `stride`.
        stride: units of s per solver step.
        solver: a key of `SOLVERS`.
    """
    terms = diffrax.MultiTerm(
        diffrax.ODETerm(lambda _, y, __: drift(y)),
        diffrax.ControlTerm(lambda _, y, __: operator(y), brownian),
    )
    solution = diffrax.diffeqsolve(
        terms,
        SOLVERS[solver].build(),
        jnp.zeros(()),
        jnp.asarray(steps, dtype=float),
        None,
        y0,
        stepsize_controller=WholeSteps(stride),
        adjoint=diffrax.ForwardMode(),
        saveat=diffrax.SaveAt(t1=True),
        max_steps=None,
        throw=False,
    )
    assert solution.ys is not None
    return jax.tree.map(lambda leaf: leaf[0], solution.ys)


def scan(
    drift: Field,
    operator: Operator,
    y0: PyTree[Array],
    brownian: diffrax.AbstractBrownianPath,
    steps: int,
    stride: int,
) -> PyTree[Array]:
    """The Euler steps of `solve` on the same increments, as a plain `jax.lax.scan`."""

    def step(y: PyTree[Array], s: Float[Array, ""]) -> tuple[PyTree[Array], None]:
        kick = operator(y).mv(brownian.evaluate(s, s + stride))
        return jax.tree.map(lambda a, b, c: a + stride * b + c, y, drift(y), kick), None

    return jax.lax.scan(step, y0, jnp.arange(0, steps, stride, dtype=float))[0]


def brownian_path(
    paths: int, dim: int, key: PRNGKeyArray, solver: str = "euler"
) -> diffrax.UnsafeBrownianPath:
    """Increments of shape [paths, dim], with the Levy area the solver asks for."""
    levy = diffrax.SpaceTimeLevyArea if SOLVERS[solver].levy_area else diffrax.BrownianIncrement
    return diffrax.UnsafeBrownianPath(shape=(paths, dim), key=key, levy_area=levy)
