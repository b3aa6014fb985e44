"""One-dimensional grids: interpolation and differentiation of a function known at nodes."""

import abc
import functools as ft
import itertools
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.special
from jaxtyping import Float


class _Nodes(NamedTuple):
    """Chebyshev-Lobatto nodes on (-1, 1), their barycentric weights, two derivatives."""

    nodes: np.ndarray
    weights: np.ndarray
    first: np.ndarray
    second: np.ndarray


@ft.lru_cache(maxsize=32)
def _chebyshev(n: int) -> _Nodes:
    angle = np.pi * np.arange(n) / (n - 1)
    weights = (-1.0) ** np.arange(n)
    weights[[0, -1]] *= 0.5
    # x_i - x_j by a product of sines, which does not cancel near the ends.
    i, j = np.meshgrid(angle, angle, indexing="ij")
    apart = 2.0 * np.sin(0.5 * (i + j)) * np.sin(0.5 * (i - j))
    np.fill_diagonal(apart, 1.0)
    first = (weights[None, :] / weights[:, None]) / apart
    np.fill_diagonal(first, 0.0)
    np.fill_diagonal(first, -first.sum(axis=1))
    return _Nodes(-np.cos(angle), weights, first, first @ first)


class Grid(abc.ABC):
    """Nodes, and the linear maps from values at nodes to values and derivatives elsewhere."""

    nodes: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @abc.abstractmethod
    def interpolate(self, points: Float[np.ndarray, "*P"]) -> Any:
        """`[P..., n]`: from values at the nodes to values at `points`."""

    def fade(self, drift: Float[np.ndarray, " n"], diffusion: Float[np.ndarray, " n"]):
        """The coefficients to use in a generator on this grid."""
        return drift, diffusion


class Point(Grid):
    """A grid of one node, for processes without a grid coordinate."""

    nodes = np.zeros(1)
    first = second = np.zeros((1, 1))

    def interpolate(self, points):
        return np.ones((*points.shape, 1))


class Chebyshev(Grid):
    """One interval, spectrally accurate for analytic functions.

    Args:
        lo, hi: the interval.
        n: number of nodes.
    """

    def __init__(self, lo: float, hi: float, n: int):
        self.lo, self.hi = lo, hi
        unit = _chebyshev(n)
        self.nodes = lo + 0.5 * (hi - lo) * (1.0 + unit.nodes)
        self._weights = unit.weights
        scale = 2.0 / (hi - lo)
        self.first, self.second = scale * unit.first, scale**2 * unit.second

    def interpolate(self, points):
        apart = points[..., None] - self.nodes
        exact = apart == 0.0
        terms = self._weights / np.where(exact, 1.0, apart)
        matrix = terms / terms.sum(axis=-1, keepdims=True)
        return np.where(exact.any(axis=-1, keepdims=True), exact.astype(float), matrix)


class Pieces(Grid):
    r"""Chebyshev on adjacent intervals, for generators.

    Where coefficients have kinks (joints), the solution of $u_t = b u' + \frac12 a u''$ keeps a
    continuous slope and is analytic between. A joint is no unknown: its value follows from the
    equality of the one-sided slopes. The ends carry no condition; `fade` is what makes that
    well-posed.

    Args:
        breaks: ends and joints, increasing.
        n: nodes per interval.
        collar: how much is added at either end, beyond `breaks`, to fade coefficients in.
    """

    def __init__(self, breaks: list[float], n: int, collar: float):
        self._core, self._collar = (breaks[0], breaks[-1]), collar
        breaks = [breaks[0] - collar, *breaks[1:-1], breaks[-1] + collar]
        self._parts = [Chebyshev(a, b, n) for a, b in itertools.pairwise(breaks)]
        self._breaks, self._n = breaks, n
        parts = len(self._parts)
        left, right = n * np.arange(1, parts) - 1, n * np.arange(1, parts)
        inner = np.setdiff1d(np.arange(parts * n), np.concatenate([left, right]))
        unit = _chebyshev(n)
        scales = [2.0 / (b - a) for a, b in itertools.pairwise(breaks)]
        slope = np.asarray(scipy.linalg.block_diag(*(scale * unit.first for scale in scales)))
        bend = np.asarray(scipy.linalg.block_diag(*(scale**2 * unit.second for scale in scales)))
        jump = slope[left] - slope[right]
        solved = -np.linalg.solve(jump[:, left] + jump[:, right], jump[:, inner])
        lift = np.zeros((parts * n, len(inner)))
        lift[inner, np.arange(len(inner))] = 1.0
        lift[left] = lift[right] = solved
        self._lift = lift
        self.nodes = np.concatenate([part.nodes for part in self._parts])[inner]
        self.first, self.second = (
            matrix[np.ix_(inner, inner)] + (matrix[:, left] + matrix[:, right])[inner] @ solved
            for matrix in (slope, bend)
        )

    def fade(self, drift, diffusion):
        r"""$\frac12\mathrm{erfc}$ from one in the core to zero at the ends, for the diffusion, and
        for the drift at an end where it points outwards.

        Nothing then enters or leaves, so the ends need no condition. The process reaches the
        collars with a probability below rounding, and a drift that points inwards is left alone
        because stopping it would make the backward solution steep.
        """
        lo, hi = self._core

        def toward(outside):
            return 0.5 * scipy.special.erfc(11.0 / self._collar * outside - 5.5)

        below, above = toward(lo - self.nodes), toward(self.nodes - hi)
        kept = np.ones_like(below)
        if drift[0] < 0.0:
            kept = kept * below
        if drift[-1] > 0.0:
            kept = kept * above
        return drift * kept, diffusion * below * above

    def interpolate(self, points):
        flat = np.ravel(points)
        piece = np.searchsorted(self._breaks[1:-1], flat, side="right")
        matrix = np.zeros((flat.size, self._lift.shape[1]))
        for p in np.unique(piece):
            rows = self._parts[p].interpolate(flat[piece == p])
            matrix[piece == p] = rows @ self._lift[p * self._n : (p + 1) * self._n]
        return matrix.reshape((*np.shape(points), -1))


class Fine(Grid):
    """A fine uniform grid with local cubic interpolation, for chains with a kink.

    A chain spreads the kink of rho to all its preimages, so no choice of pieces is spectral; local
    interpolation confines the damage to cells that hold a kink.

    Args:
        lo, hi: the interval.
        n: number of nodes.
    """

    def __init__(self, lo: float, hi: float, n: int):
        self.nodes = np.linspace(lo, hi, n)
        self._step = (hi - lo) / (n - 1)

    def interpolate(self, points):
        # Points beyond the ends are reached with a probability below rounding.
        flat = np.clip(np.ravel(points), self.nodes[0], self.nodes[-1])
        n = len(self.nodes)
        base = np.clip(((flat - self.nodes[0]) / self._step).astype(int) - 1, 0, n - 4)
        t = (flat - self.nodes[base]) / self._step
        cubic = (
            -(t - 1) * (t - 2) * (t - 3) / 6,
            t * (t - 2) * (t - 3) / 2,
            -t * (t - 1) * (t - 3) / 2,
            t * (t - 1) * (t - 2) / 6,
        )
        rows = np.arange(flat.size)
        return sum(
            sp.csr_array((value, (rows, base + k)), shape=(flat.size, n))
            for k, value in enumerate(cubic)
        )
