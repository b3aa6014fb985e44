"""The Brownian paths of an ensemble, and the precision in which their normals are drawn."""

import math
from typing import Any, Literal, get_args

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from pgpo_jax.errors import PGPOValueError
from sde.monte_carlo._solvers import levy_area

Normals = Literal["float64", "float32"]
"""What normals are drawn in; everything else is float64 either way.

A normal of float32 is one of 2^23 values between -5.42 and 5.22, drawn with equal probability. Its
mean is -3.3e-7, its variance 1 - 1.1e-7, its third moment -1.0e-5 and its fourth 3 - 5.8e-6.

Added in version 0.2.0.
"""


class _WholeLine(diffrax.AbstractBrownianPath):
    """A path that is made of another one, at any time."""

    # diffrax declares these as mutable class variables, which no override can narrow.
    t0: Any = -math.inf
    t1: Any = math.inf
    levy_area: Any = eqx.field(static=True, default=diffrax.BrownianIncrement)


class WidenedPath(_WholeLine):
    """A Brownian path of float32, read in float64."""

    narrow: diffrax.UnsafeBrownianPath = eqx.field(kw_only=True)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        drawn: Any = self.narrow.evaluate(t0, t1, left, use_levy)
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), drawn)


class SummedBrownianPath(_WholeLine):
    """The path of a finer solve, read in steps of two: `W(s+2) - W(s)` as the sum of its halves."""

    fine: diffrax.AbstractBrownianPath = eqx.field(kw_only=True)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        if use_levy or t1 is None:
            raise PGPOValueError("a summed path has increments only, no Levy area")
        middle = t0 + (t1 - t0) / 2
        halves: Any = self.fine.evaluate(t0, middle), self.fine.evaluate(middle, t1)
        return halves[0] + halves[1]


def check_normals(normals: Any) -> None:
    """Raises ValueError unless normals can be drawn so."""
    if not isinstance(normals, str) or normals not in get_args(Normals):
        raise PGPOValueError(f"normals must be 'float64' or 'float32', got {normals!r}")


def brownian_path(
    paths: int,
    dim: int,
    key: PRNGKeyArray,
    solver: diffrax.AbstractSolver | None = None,
    normals: Normals = "float64",
) -> diffrax.AbstractBrownianPath:
    """Increments of shape [paths, dim] in float64, with the Levy area that the solver asks for.

    Args:
        paths: how many.
        dim: of the noise.
        key: a PRNG key.
        solver: `None` for one that asks for increments only.
        normals: what they are drawn in.
    """
    levy = diffrax.BrownianIncrement if solver is None else levy_area(solver)
    shape = jax.ShapeDtypeStruct((paths, dim), jnp.dtype(normals))
    drawn = diffrax.UnsafeBrownianPath(shape=shape, key=key, levy_area=levy)
    return drawn if normals == "float64" else WidenedPath(narrow=drawn, levy_area=levy)
