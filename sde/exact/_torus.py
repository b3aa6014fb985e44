r"""The exact engine of the torus: $u(x, y) = \sum_l x^l v_l(x, y)$ with periodic $v_l$.

Powers of the first coordinate are lifted as in `_lifted`, because theta itself is not periodic: the
displacement of a step is. The v_l live on an n x n grid of trigonometric polynomials.

* chain: $v_j(\theta) \leftarrow E_B\sum_{l\ge j}\binom lj D_B^{l-j} v_l(\theta + D_B)$ with the
  displacement $(D_B, \cdot)$ of the minibatch;
* equation: $e^{\eta G}$ by its Taylor series, substeps small enough for it to converge at once.
"""

import functools as ft
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sde.exact._observables import Observable
from sde.exact._process import Process

LADDER = (20, 28, 40, 56)
_TERMS = 14


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
        raise ValueError(
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
    moved = process.next_states(nodes)
    maps = [np.zeros((n * n, n * n)) for _ in range(degree + 1)]
    for b, weight in enumerate(process.weights):
        evaluate = weight * _evaluation(n, process.problem.period, moved[:, b])
        shift = (moved[:, b, 0] - nodes[:, 0])[:, None]
        for q in range(degree + 1):
            maps[q] += evaluate
            evaluate = evaluate * shift
    # The law forward as a row vector, so that observables cost nothing extra.
    transposed = [np.ascontiguousarray(m.T) for m in maps]
    law = read
    out = np.empty((steps + 1, values.shape[2]))
    out[0] = np.einsum("lp,lpo->o", law, values)
    for k in range(1, steps + 1):
        # v_j gathers comb(l, j) maps[l - j] v_l, so the law of power l gathers from all j <= l.
        applied = [transposed[q] @ law[: degree + 1 - q].T for q in range(degree + 1)]
        law = np.stack(
            [
                sum(math.comb(l, j) * applied[l - j][:, j] for j in range(l + 1))
                for l in range(degree + 1)
            ]
        )
        out[k] = np.einsum("lp,lpo->o", law, values)
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
    substeps = max(1, math.ceil(process.eta * rate))
    with jax.enable_x64(True):
        path = _taylor(
            jnp.asarray(values.reshape(-1, n, n, values.shape[2])),
            jnp.asarray(drift.reshape(n, n, 2)),
            jnp.asarray(diffusion.reshape(n, n, 2, 2)),
            jnp.asarray(first),
            jnp.asarray(read.reshape(-1, n, n)),
            jnp.asarray(process.eta / substeps),
            steps,
            substeps,
        )
        return np.asarray(path)


@ft.partial(jax.jit, static_argnums=(6, 7))
def _taylor(values, drift, diffusion, first, read, dt, steps, substeps):
    degree = values.shape[0] - 1
    b = drift[..., None]
    a = diffusion[..., None]

    def generator(v):
        vx = jnp.einsum("ij,ljko->liko", first, v)
        vy = jnp.einsum("kj,lijo->liko", first, v)
        vxx = jnp.einsum("ij,ljko->liko", first, vx)
        vxy = jnp.einsum("ij,ljko->liko", first, vy)
        vyy = jnp.einsum("kj,lijo->liko", first, vy)
        out = b[:, :, 0] * vx + b[:, :, 1] * vy
        out += 0.5 * (a[:, :, 0, 0] * vxx + 2 * a[:, :, 0, 1] * vxy + a[:, :, 1, 1] * vyy)
        for l in range(1, degree + 1):
            lower = b[:, :, 0] * v[l] + a[:, :, 0, 0] * vx[l] + a[:, :, 0, 1] * vy[l]
            out = out.at[l - 1].add(l * lower)
            if l >= 2:
                out = out.at[l - 2].add(0.5 * l * (l - 1) * a[:, :, 0, 0] * v[l])
        return out

    def substep(_, v):
        term, total = v, v
        for r in range(1, _TERMS + 1):
            term = generator(term) * (dt / r)
            total = total + term
        return total

    def step(v, _):
        v = jax.lax.fori_loop(0, substeps, substep, v)
        return v, jnp.einsum("lij,lijo->o", read, v)

    start = jnp.einsum("lij,lijo->o", read, values)
    _, path = jax.lax.scan(step, values, length=steps)
    return jnp.concatenate([start[None], path])
