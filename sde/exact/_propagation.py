r"""Repeated steps of a law of finite length, $\mu_{k+1} = \mu_k M$, and $M = e^{A}$.

Compiled programs of few sizes do the dense products. A matrix is extended by zeros to the next
size, and a law by zeros, which changes neither the exponential nor the law. The libraries of NumPy
and SciPy spread products of this size over threads that wait for each other: on a busy machine
they took over a hundred times as long.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pgpo_jax.errors import PGPOValueError

# Steps that one call of a program takes.
_STRIDE = 32
_COLUMNS = 4
# A Taylor polynomial of degree 16 is exact to rounding for matrices of this norm.
_DEGREE, _REACH = 16, 0.78


def _rounded(n: int) -> int:
    """The next size for which there is a program: at most a ninth longer, beyond 64."""
    if n <= 8:
        return 8
    unit = 2 ** max(3, math.floor(math.log2(n)) - 3)
    return unit * math.ceil(n / unit)


def _extended(array: np.ndarray, *shape: int) -> np.ndarray:
    out = np.zeros(shape)
    out[tuple(slice(n) for n in array.shape)] = array
    return out


def exponential(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """e^A, by scaling, the Taylor polynomial of degree 16 and squaring."""
    n = len(matrix)
    size = float(np.abs(matrix).sum(axis=0).max(initial=0.0))
    if not math.isfinite(size):
        raise PGPOValueError(
            "the generator of an equation must be finite on the grid of the exact engine. Lower "
            "eta or alpha, set the problem's `domain`, or use Monte Carlo"
        )
    squarings = max(0, math.ceil(math.log2(size / _REACH))) if size > 0.0 else 0
    with jax.enable_x64(True):
        scaled = _extended(matrix * 0.5**squarings, _rounded(n), _rounded(n))
        return np.asarray(_exponential(scaled, squarings))[:n, :n]


@jax.jit
def _exponential(matrix: Float[Array, "n n"], squarings: Int[Array, ""]) -> Float[Array, "n n"]:
    # Horner's rule in the fourth power (Paterson and Stockmeyer), lowest degree last.
    eye = jnp.eye(len(matrix))
    square = matrix @ matrix
    powers = jnp.stack([eye, matrix, square, square @ matrix])
    fourth = square @ square
    weights = np.array([1.0 / math.factorial(k) for k in range(_DEGREE)]).reshape(-1, 4)

    def add(total: Array, row: Array) -> tuple[Array, None]:
        return total @ fourth + jnp.tensordot(row, powers, 1), None

    highest = eye / math.factorial(_DEGREE)
    total, _ = jax.lax.scan(add, highest, jnp.asarray(weights[::-1]))
    return jax.lax.fori_loop(0, squarings, lambda _, x: x @ x, total)


def propagate(
    matrix: Float[np.ndarray, "n n"],
    law: Float[np.ndarray, " n"],
    final: Float[np.ndarray, "n O"],
    steps: int,
) -> Float[np.ndarray, "K O"]:
    """`law @ M^k @ final` for k = 0..steps."""
    n, columns = final.shape
    m = _rounded(n)
    width = _COLUMNS * math.ceil(columns / _COLUMNS)
    with jax.enable_x64(True):
        # `device_put` compiles nothing; `jnp.asarray` would, once for every shape.
        step, read, here = jax.device_put(
            (_extended(matrix, m, m), _extended(final, m, width), _extended(law, m))
        )
        parts = [(law @ final)[None]]
        for first in range(0, steps, _STRIDE):
            here, values = _advance(step, here, read)
            parts.append(np.asarray(values)[: steps - first, :columns])
    return np.concatenate(parts)


@jax.jit
def _advance(
    matrix: Float[Array, "n n"], law: Float[Array, " n"], final: Float[Array, "n O"]
) -> tuple[Float[Array, " n"], Float[Array, "K O"]]:
    def step(law: Array, _: None) -> tuple[Array, Array]:
        law = law @ matrix
        return law, law @ final

    return jax.lax.scan(step, law, None, length=_STRIDE)
