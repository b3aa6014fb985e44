r"""The exact engine of states (x, y): powers of x times functions of y on a grid.

If, given y, a process is affine in x, then $u(x, y) = \sum_{l\le p} v_l(y) x^l$ stays of that form
under the backward equation, and only functions of one variable remain. Without y this is the closed
moment system of the quadratic problem. Without x it is the spectral backward recursion. With both
it is the Feynman-Kac recursion of the sliding kink and of the running mean on the quadratic.

* chain, $x' = A_B(y)x + c_B(y)$, $y' = Y_B(y)$:
  $v_j \leftarrow E_B\sum_{l\ge j}\binom lj A_B^j c_B^{l-j}\; v_l(Y_B(y))$.
* equation, with $b_x, a_{xy}$ affine and $a_{xx}$ quadratic in x. The generator is the sum of
  $l x^{l-1} b_x v + x^l b_y v' + \frac12 l(l-1)x^{l-2} a_{xx} v$ and
  $l x^{l-1} a_{xy} v' + \frac12 x^l a_{yy} v''$. Its exponential over one eta is the one-step map.

The law of the state is carried forward as a row vector, so that one pass serves all observables and
all k.
"""

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from sde.exact._grids import Grid
from sde.exact._layout import Layout, choose_grid
from sde.exact._observables import Observable
from sde.exact._process import Process
from sde.exact._propagation import exponential, propagate

# Points times minibatches times nodes that are held at once.
_CHUNK = 20_000_000


def lifted_values(
    process: Process,
    layout: Layout,
    observables: tuple[Observable, ...],
    steps: int,
    level: int,
) -> Float[np.ndarray, "K O"]:
    """E g(state_k) for k = 0..steps and every observable, at one resolution."""
    grid = choose_grid(process, layout, steps, level)
    degree = 0 if layout.power is None else max(o.degree or 0 for o in observables)
    if process.equation is None:
        advance = _chain_matrix(process, layout, grid, degree)
    else:
        advance = exponential(process.eta * _generator(process, layout, grid, degree))
    final = np.stack([_final(o, layout, grid, degree) for o in observables], axis=1)
    x0 = 1.0 if layout.power is None else float(process.start[layout.power])
    y0 = np.zeros(1) if layout.grid is None else process.start[[layout.grid]]
    here = grid.interpolate(y0)
    here = np.ravel(here.toarray() if sp.issparse(here) else here)
    law = np.concatenate([x0**l * here for l in range(degree + 1)])
    if not sp.issparse(advance):
        return propagate(np.asarray(advance), law, final, steps)
    backward = sp.csr_array(advance.T)
    values = np.empty((steps + 1, len(observables)))
    values[0] = law @ final
    for k in range(1, steps + 1):
        law = backward @ law
        values[k] = law @ final
    return values


def _final(observable: Observable, layout: Layout, grid: Grid, degree: int) -> np.ndarray:
    n = len(grid.nodes)
    coefficients = np.zeros((degree + 1, n))
    if layout.power is None:
        coefficients[0] = observable.on(grid.nodes[:, None])
    else:
        assert observable.degree is not None
        coefficients[observable.degree] = 1.0
    return coefficients.ravel()


def _chain_matrix(process: Process, layout: Layout, grid: Grid, degree: int):
    """The block matrix of one step, sparse on a fine grid."""
    n = len(grid.nodes)
    moved = process.next_states(layout.states(0.0, grid.nodes))
    where = np.zeros(moved.shape[:2]) if layout.grid is None else moved[:, :, layout.grid]
    slope = shift = np.zeros(moved.shape[:2])
    if layout.power is not None:
        shift = moved[:, :, layout.power]
        slope = process.next_states(layout.states(1.0, grid.nodes))[:, :, layout.power] - shift
    blocks: list[list[Any]] = [[None] * (degree + 1) for _ in range(degree + 1)]
    per_chunk = max(1, _CHUNK // n**2) if n < 1000 else 1
    for first in range(0, len(process.weights), per_chunk):
        chunk = slice(first, first + per_chunk)
        maps = grid.interpolate(where[:, chunk])
        for l in range(degree + 1):
            for j in range(l + 1):
                factor = math.comb(l, j) * process.weights[chunk]
                factor = factor * slope[:, chunk] ** j * shift[:, chunk] ** (l - j)
                if sp.issparse(maps):
                    part = sp.diags_array(np.ravel(factor)) @ maps
                else:
                    part = np.einsum("im,imk->ik", factor, maps)
                blocks[j][l] = part if blocks[j][l] is None else blocks[j][l] + part
    if any(sp.issparse(block) for row in blocks for block in row):
        return sp.block_array(blocks, format="csr")
    zero = np.zeros((n, n))
    return np.block([[zero if block is None else block for block in row] for row in blocks])


def _generator(process: Process, layout: Layout, grid: Grid, degree: int) -> np.ndarray:
    n = len(grid.nodes)
    first, second = grid.first, grid.second
    at = {x: process.coefficients(layout.states(x, grid.nodes)) for x in (0.0, 1.0, -1.0)}
    x, y = layout.power, layout.grid
    blocks = np.zeros((degree + 1, n, degree + 1, n))
    if y is not None:
        b, a = grid.fade(at[0.0][0][:, y], at[0.0][1][:, y, y])
        own = b[:, None] * first + 0.5 * a[:, None] * second
        for l in range(degree + 1):
            blocks[l, :, l, :] += own
    if x is not None:
        eye = np.eye(n)
        b0, b1 = at[0.0][0][:, x], at[1.0][0][:, x] - at[0.0][0][:, x]
        a0, up, down = (at[v][1][:, x, x] for v in (0.0, 1.0, -1.0))
        a1, a2 = 0.5 * (up - down), 0.5 * (up + down) - a0
        for l in range(1, degree + 1):
            blocks[l, :, l, :] += (l * b1)[:, None] * eye
            blocks[l - 1, :, l, :] += (l * b0)[:, None] * eye
            for drop, a in ((2, a0), (1, a1), (0, a2)):
                if l >= 2:
                    blocks[l - drop, :, l, :] += (0.5 * l * (l - 1) * a)[:, None] * eye
            if y is not None:
                _, c0 = grid.fade(at[0.0][0][:, y], at[0.0][1][:, x, y])
                _, c1 = grid.fade(at[0.0][0][:, y], at[1.0][1][:, x, y])
                c1 = c1 - c0
                blocks[l, :, l, :] += (l * c1)[:, None] * first
                blocks[l - 1, :, l, :] += (l * c0)[:, None] * first
    return blocks.reshape((degree + 1) * n, (degree + 1) * n)
