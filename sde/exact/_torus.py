r"""The exact engine of the torus: $u(x, y) = \sum_l x^l v_l(x, y)$ with periodic $v_l$.

Powers of the first coordinate are lifted as in `_lifted`, because theta itself is not periodic;
only the displacement of a step is. The v_l live on an n x n grid of trigonometric polynomials.

* chain: $v_j(\theta) \leftarrow E_B\sum_{l\ge j}\binom lj D_B^{l-j} v_l(\theta + D_B)$ with D_B the
  displacement of the minibatch (its first coordinate in the power). A step is short, so that the
  shift is its own Taylor series, $\sum_{a,b}\frac{E_B[D_x^{a+l-j}D_y^b]}{a!\,b!}
  \partial_x^a\partial_y^b v_l$, which for trigonometric polynomials converges to rounding;
* equation: $e^{\eta G}$ by its Taylor series, in substeps short enough.

Both carry the law forward (the adjoint), so that observables cost nothing extra.
"""

import functools as ft
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from pgpo_jax.errors import PGPOValueError
from sde.exact._observables import Observable
from sde.exact._process import Process

LADDER = (24, 32, 40, 48)
_ROUNDING = 1e-14
_LONGEST = 30.0
_Law: TypeAlias = Float[np.ndarray, "D n n"] | Float[Array, "D n n"]


def torus_values(
    process: Process, observables: tuple[Observable, ...], steps: int, level: int
) -> Float[np.ndarray, "K O"]:
    """E g(theta_k) for k = 0..steps and every observable, at one resolution."""
    n = LADDER[level]
    period = process.problem.period
    assert period is not None
    side = period / n * np.arange(n)
    nodes = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    degree = max(o.degree or 0 for o in observables)
    values = np.zeros((degree + 1, n * n, len(observables)))
    for k, observable in enumerate(observables):
        if observable.degree is None:
            values[0, :, k] = _periodic(observable, nodes, period)
        else:
            values[observable.degree, :, k] = 1.0
    here = _evaluation(n, period, process.start[None])[0]
    powers = process.start[0] ** np.arange(degree + 1)
    read = powers[:, None] * here
    if process.equation is None:
        return _run_chain(process, nodes, n, values, read, steps)
    return _run_equation(process, nodes, n, values, read, steps)


def _periodic(observable: Observable, nodes: np.ndarray, period: float) -> np.ndarray:
    values = observable.on(nodes)
    shifted = (observable.on(nodes + period * np.array(v)) for v in ((1.0, 0.0), (0.0, 1.0)))
    if any(np.max(np.abs(values - other)) > 1e-9 for other in shifted):
        raise PGPOValueError(
            f"observable {observable.name!r} must be a power of theta[0] or periodic with period "
            f"{period:.6g} to have an exact expectation on the torus"
        )
    return values


def _kernel(n: int, period: float, points: np.ndarray) -> np.ndarray:
    """`[P, n]`: trigonometric interpolation in one coordinate (n even)."""
    phase = math.pi * (points[:, None] / period - np.arange(n) / n)
    s = np.sin(phase)
    on_node = np.abs(s) < 1e-14
    kernel = np.sin(n * phase) / np.where(on_node, 1.0, np.tan(phase)) / n
    return np.where(on_node, 1.0, kernel)


def _evaluation(n: int, period: float, points: np.ndarray) -> np.ndarray:
    """`[P, n*n]`: values at points of the torus from values on the grid."""
    along_x, along_y = (_kernel(n, period, points[:, k]) for k in range(2))
    return (along_x[:, :, None] * along_y[:, None, :]).reshape(len(points), n * n)


def _run_chain(process, nodes, n, values, read, steps):
    degree = values.shape[0] - 1
    period = process.problem.period
    shift = process.next_states(nodes) - nodes[:, None, :]
    reach = np.abs(shift).max() * math.pi * n / period
    terms = _count_terms(process, float(reach))
    orders = np.arange(terms + 1)
    factorials = np.array([math.factorial(k) for k in orders], dtype=float)
    along = [shift[:, :, k, None] ** np.arange(terms + degree + 1) for k in range(2)]
    moments = np.einsum("m,pma,pmb->abp", process.weights, along[0], along[1])
    # The powers of the shift up to a total degree, those of one b side by side.
    by_y, by_x = np.nonzero(orders[:, None] + orders <= terms)
    fields = np.stack(
        [
            moments[by_x + q, by_y] / (factorials[by_x] * factorials[by_y])[:, None]
            for q in range(degree + 1)
        ]
    )
    first = _derivative(n, period)
    powers = np.stack([np.linalg.matrix_power(first, k) for k in orders])
    starts = np.flatnonzero(np.diff(by_y, prepend=-1))
    backward = np.ascontiguousarray(powers.swapaxes(1, 2))[by_x]
    shape = (degree + 1, len(by_x), n, n)
    advance = ft.partial(_shift, fields.reshape(shape), backward, powers, starts)
    return _carry(advance, values, read.reshape(-1, n, n), steps)


def _count_terms(process: Process, reach: float) -> int:
    """The terms of a Taylor series that matter, of derivatives times a step of size `reach`."""
    # The largest term of the series is e^reach, so that rounding is magnified by as much.
    if not reach <= _LONGEST:
        raise PGPOValueError(
            f"steps of {process.name} must be short against the period for the exact engine; at "
            f"eta={process.eta!r} one is {reach:.3g} times the shortest wave. Lower eta, or use "
            "Monte Carlo"
        )
    terms = 1
    while reach**terms / math.factorial(terms) > _ROUNDING:
        terms += 1
    return terms


def _carry(advance: Callable[[Any], _Law], values: np.ndarray, law: _Law, steps: int) -> np.ndarray:
    """`[K + 1, observables]`: a law advanced step by step, and what it says of `values`."""
    laws = [np.asarray(law)]
    for _ in range(steps):
        law = advance(law)
        laws.append(np.asarray(law))
    return np.asarray(laws).reshape(steps + 1, -1) @ values.reshape(-1, values.shape[-1])


def _shift(
    fields: Float[np.ndarray, "D P n n"],
    along_x: Float[np.ndarray, "P n n"],
    along_y: Float[np.ndarray, "T n n"],
    starts: Int[np.ndarray, " T"],
    law: Float[np.ndarray, "D n n"],
) -> Float[np.ndarray, "D n n"]:
    """One step of the law; products of matrices so small cost less than compiling them."""
    out = np.empty_like(law)
    for l in range(len(law)):
        weighted = fields[0] * law[l]
        for j in range(l):
            weighted += fields[l - j] * (math.comb(l, j) * law[j])
        moved = np.add.reduceat(along_x @ weighted, starts, axis=0)
        out[l] = np.sum(moved @ along_y, axis=0)
    return out


def _derivative(n: int, period: float) -> np.ndarray:
    offset = np.arange(n)[:, None] - np.arange(n)[None, :]
    with np.errstate(divide="ignore"):
        matrix = 0.5 * (-1.0) ** offset / np.tan(np.pi * offset / n)
    np.fill_diagonal(matrix, 0.0)
    return 2.0 * math.pi / period * matrix


def _run_equation(process, nodes, n, values, read, steps):
    drift, diffusion = process.coefficients(nodes)
    first = _derivative(n, process.problem.period)
    size = n / 2 * 2.0 * math.pi / process.problem.period
    rate = np.abs(drift).sum(axis=1).max() * size + diffusion.sum(axis=(1, 2)).max() * size**2
    if not math.isfinite(rate):
        raise PGPOValueError(
            f"drift and diffusion of {process.name} must be finite on the whole torus for the "
            "exact engine: lower alpha, or set rho_max"
        )
    substeps = max(1, math.ceil(process.eta * rate / 2.0))
    terms = _count_terms(process, float(process.eta * rate / substeps))
    with jax.enable_x64(True):
        advance = ft.partial(
            _taylor,
            *jax.device_put((drift.reshape(n, n, 2), diffusion.reshape(n, n, 2, 2), first)),
            process.eta / substeps,
            terms,
            substeps,
        )
        return _carry(advance, values, jax.device_put(read.reshape(-1, n, n)), steps)


@jax.jit
def _taylor(drift, diffusion, first, dt, terms, substeps, law):
    degree = law.shape[0] - 1
    bx, by = drift[..., 0], drift[..., 1]
    axx, axy, ayy = diffusion[..., 0, 0], diffusion[..., 0, 1], diffusion[..., 1, 1]

    def generator(v):
        vx, vy = first @ v, v @ first.T
        out = bx * vx + by * vy
        out += 0.5 * (axx * (first @ vx) + 2 * axy * (first @ vy) + ayy * (vy @ first.T))
        for l in range(1, degree + 1):
            out = out.at[l - 1].add(l * (bx * v[l] + axx * vx[l] + axy * vy[l]))
            if l >= 2:
                out = out.at[l - 2].add(0.5 * l * (l - 1) * axx * v[l])
        return out

    # Forward on the law, so that observables cost nothing extra.
    adjoint = jax.linear_transpose(generator, law)

    def substep(_, law):
        def add(r, carry):
            term, total = carry
            (term,) = adjoint(term)
            term = term * (dt / r)
            return term, total + term

        return jax.lax.fori_loop(1, terms + 1, add, (law, law))[1]

    return jax.lax.fori_loop(0, substeps, substep, law)
