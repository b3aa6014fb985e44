"""One diffrax solve of a whole ensemble, and the same Euler steps by a plain `lax.scan`.

Time is counted in steps. With s = t/h the equation dX = b dt + sigma dW becomes dX = h b ds +
sqrt(h) sigma dW(s). So step times are integers, exact in floating point. Two programs with equal
steps see the same Brownian increments.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

Field = Callable[[PyTree[Array]], PyTree[Array]]
Kick = Callable[[PyTree[Array], Float[Array, "paths m"]], PyTree[Array]]


class EnsembleNoise(diffrax.ControlTerm):
    """The noise of an ensemble: `vector_field` gives matrices, `kick` takes increments by them.

    Matrices are arrays, since some solvers (`diffrax.ReversibleHeun`) keep and add them; `kick`
    must be linear in both.
    """

    kick: Kick = eqx.field(static=True)

    def __init__(
        self, vector_field: Callable[..., Any], control: diffrax.AbstractPath, kick: Kick
    ) -> None:
        super().__init__(vector_field, control)
        self.kick = kick

    def prod(self, vf: PyTree[Array], control: PyTree[Array]) -> PyTree[Array]:
        return self.kick(vf, control)

    def vf_prod(self, t: Any, y: Any, args: Any, control: Any, **kwargs: Any) -> PyTree[Array]:
        return self.kick(self.vf(t, y, args, **kwargs), control)


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
    noise: Field,
    kick: Kick,
    y0: PyTree[Array],
    brownian: diffrax.AbstractBrownianPath,
    steps: int | Int[Array, ""],
    stride: int,
    solver: diffrax.AbstractSolver,
) -> PyTree[Array]:
    """Integrates `dY = drift(Y) ds + kick(noise(Y), dW)` over `steps` units of s in one solve.

    Args:
        drift: the whole state to its derivative.
        noise: the state to the matrices of its noise, a pytree of arrays.
        kick: these and increments [paths, d] to the change of the state; linear in both.
        y0: the ensemble, a pytree.
        brownian: increments of shape [paths, d].
        steps: length of the integration in units of s, a multiple of `stride`.
        stride: units of s per solver step.
        solver: one that `check_solver` takes.
    """
    terms = diffrax.MultiTerm(
        diffrax.ODETerm(lambda _, y, __: drift(y)),
        EnsembleNoise(lambda _, y, __: noise(y), brownian, kick),
    )
    solution = diffrax.diffeqsolve(
        terms,
        solver,
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
    noise: Field,
    kick: Kick,
    y0: PyTree[Array],
    brownian: diffrax.AbstractBrownianPath,
    steps: int,
    stride: int,
) -> PyTree[Array]:
    """The Euler steps of `solve` on the same increments, as a plain `jax.lax.scan`."""

    def step(y: PyTree[Array], s: Float[Array, ""]) -> tuple[PyTree[Array], None]:
        moved = kick(noise(y), brownian.evaluate(s, s + stride))
        return jax.tree.map(lambda a, b, c: a + stride * b + c, y, drift(y), moved), None

    return jax.lax.scan(step, y0, jnp.arange(0, steps, stride, dtype=float))[0]
