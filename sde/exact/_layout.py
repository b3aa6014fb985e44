"""Which coordinate is handled by powers, which by a grid, and what interval the grid covers."""

import functools as ft
import math
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError
from sde._chains import MinibatchPGPO, RememberingPGPO
from sde._state_chain import StateChain
from sde.exact._blocks import block_of, in_blocks
from sde.exact._grids import Chebyshev, Fine, Grid, Pieces, Point
from sde.exact._process import Process
from sde.problems import Problem

_SMOOTH_LADDER = (60, 90, 130, 190, 280, 400)
_FINE_LADDER = (1_000, 2_000, 4_000, 8_000, 16_000)
_PIECE_LADDER = (40, 60, 90, 130)
_MOST_KINKS = 40
_COLLAR = 0.2
_DEVIATIONS = 6.5
_LEAST_DEVIATIONS = 6


@dataclass(frozen=True)
class Layout:
    """The split of a state into a coordinate `power` and a coordinate `grid`.

    Given `grid`, the process is affine in `power`. Either may be `None`.
    """

    size: int
    power: int | None
    grid: int | None

    def states(self, power: float, grid: Float[np.ndarray, " P"]) -> Float[np.ndarray, "P m"]:
        """States with one value of the power coordinate and many of the grid coordinate."""
        states = np.zeros((len(grid), self.size))
        if self.power is not None:
            states[:, self.power] = power
        if self.grid is not None:
            states[:, self.grid] = grid
        return states


def ladder(process: Process, layout: Layout) -> tuple[int, ...]:
    """The resolutions to try, in turn."""
    if layout.grid is None:
        return (1, 1)
    if not _kinked(process):
        return _SMOOTH_LADDER
    return _FINE_LADDER if process.equation is None else _PIECE_LADDER


def choose_grid(process: Process, layout: Layout, steps: int, level: int) -> Grid:
    """The grid of a given level of the ladder; higher levels are finer and, for SDEs, wider."""
    if layout.grid is None:
        return Point()
    n = ladder(process, layout)[level]
    if process.problem.domain is not None and layout.grid == 0:
        lo, hi = process.problem.domain
        _check_domain(process, layout, steps * process.eta, lo, hi)
    elif process.equation is None and (_remembers(process) or not _kinked(process)):
        lo, hi = _invariant_interval(process, layout)
    else:
        lo, hi = _diffusion_interval(process, layout, steps * process.eta, level)
    if process.equation is None:
        if not _kinked(process):
            return Chebyshev(lo, hi, n)
        if _remembers(process):
            # The first signal may be on the kink, which costs nothing on a node.
            lo, hi = _with_node(float(process.start[layout.grid]), lo, hi, n)
        return Fine(lo, hi, n)
    kinks = _kinks(process, layout, lo, hi) if _kinked(process) else []
    return Pieces([lo, *kinks, hi], n, _COLLAR * (hi - lo))


def _with_node(node: float, lo: float, hi: float, n: int) -> tuple[float, float]:
    """An interval about (lo, hi), one cell longer, of whose n even points `node` is one."""
    step = (hi - lo) / (n - 2)
    lo = node - step * math.ceil((node - lo) / step)
    return lo, lo + step * (n - 1)


def _check_domain(process: Process, layout: Layout, horizon: float, lo: float, hi: float) -> None:
    """Refuse a domain that the process leaves: a grid there would answer another question."""
    low, high, deviation = _linear_noise(process, layout, horizon)
    margin = _LEAST_DEVIATIONS * deviation
    if low - margin < lo or high + margin > hi:
        raise PGPOValueError(
            f"domain must hold the noise-free path and {_LEAST_DEVIATIONS} standard deviations "
            f"about it, here [{low - margin:.3g}, {high + margin:.3g}], for {process.name}; got "
            f"({lo!r}, {hi!r})"
        )
    if process.equation is None and not _kinked(process):
        after = process.next_states(layout.states(0.0, np.linspace(lo, hi, 256)))[..., layout.grid]
        if after.min() < lo - 1e-12 or after.max() > hi + 1e-12:
            raise PGPOValueError(
                f"domain must be an interval that {process.name} cannot leave, got ({lo!r}, {hi!r})"
                f", from where one step goes to [{after.min():.3g}, {after.max():.3g}]"
            )


def _kinked(process: Process) -> bool:
    problem = process.problem
    if not process.chain.modulated:
        return False
    # rho of a remembered signal has the kink even where the signal does not depend on theta.
    hard = problem.softmin is None and not problem.exponential
    return problem.kinked or (hard and _remembers(process))


def _remembers(process: Process) -> bool:
    """Whether a remembered signal is a coordinate of the state."""
    return process.chain.remembers and len(process.start) > process.problem.dim


@ft.lru_cache(maxsize=256)
def _invariant_interval(process: Process, layout: Layout) -> tuple[float, float]:
    """The smallest interval (up to a scan step) that no step of the chain leaves."""
    assert layout.grid is not None
    start = float(process.start[layout.grid])
    scan = 0.05 * np.arange(400)
    outward = layout.states(0.0, np.concatenate([start + scan, start - scan]))
    move = process.next_states(outward)[:, :, layout.grid] - outward[:, layout.grid][:, None]
    up = np.flatnonzero(move[:400].max(axis=1) <= 0.0)
    down = np.flatnonzero(move[400:].min(axis=1) >= 0.0)
    if len(up) and len(down):
        lo, hi = start - float(scan[down[0]]), start + float(scan[up[0]])
        lo, hi = min(lo, hi - 0.05), max(hi, lo + 0.05)
        for _ in range(40):
            inside = layout.states(0.0, np.linspace(lo, hi, 256))
            after = process.next_states(inside)[:, :, layout.grid]
            if after.min() >= lo - 1e-12 and after.max() <= hi + 1e-12:
                return lo, hi
            lo, hi = lo - 0.05 * (hi - lo), hi + 0.05 * (hi - lo)
    raise PGPOValueError(
        f"the spectral engine needs a bounded interval around {start!r} that the chain "
        f"{process.name} cannot leave; with eta={process.eta!r} there is none. Use a smaller eta, "
        "set the problem's `domain`, or use Monte Carlo"
    )


def _diffusion_interval(
    process: Process, layout: Layout, horizon: float, level: int
) -> tuple[float, float]:
    """The noise-free path, widened by many standard deviations, by more at higher levels."""
    lo, hi, deviation = _linear_noise(process, layout, horizon)
    margin = (_DEVIATIONS + 0.25 * level) * deviation + 0.02
    return lo - margin, hi + margin


@ft.lru_cache(maxsize=256)
def _linear_noise(process: Process, layout: Layout, horizon: float) -> tuple[float, float, float]:
    """Range of the noise-free path, and the largest standard deviation of the linear noise."""
    assert layout.grid is not None
    y, variance = float(process.start[layout.grid]), 0.0
    path, deviations = [y], [0.0]
    steps, dy = 64, 1e-4
    for _ in range(steps):
        speed, noise = _grid_motion(process, layout, y + dy * np.arange(-1, 2))
        rate = (speed[2] - speed[0]) / dy * variance + noise[1]
        variance = max(0.0, variance + horizon / steps * float(rate))
        y += horizon / steps * float(speed[1])
        path.append(y)
        deviations.append(math.sqrt(variance))
    return min(path), max(path), max(deviations)


def _grid_motion(
    process: Process, layout: Layout, grid: Float[np.ndarray, " P"]
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Mean and variance per unit of time of the grid coordinate."""
    states = layout.states(0.0, grid)
    if process.equation is not None:
        drift, diffusion = process.coefficients(states)
        return drift[:, layout.grid], diffusion[:, layout.grid, layout.grid]
    move = process.next_states(states)[:, :, layout.grid] - grid[:, None]
    mean = move @ process.weights
    return mean / process.eta, ((move - mean[:, None]) ** 2 @ process.weights) / process.eta


@ft.partial(jax.jit, static_argnums=0)
def _signals(
    problem: Problem, thetas: Float[Array, "P d"]
) -> tuple[Float[Array, "P N"], Float[Array, " P"]]:
    return jax.vmap(lambda theta: (problem.signals(theta), problem.information(theta)))(thetas)


def _meets(
    problem: Problem, scan: Float[np.ndarray, " P"], signals: Float[np.ndarray, "P S"]
) -> list[float]:
    """Where on `scan` signals meet log(rho_max) / alpha, column by column."""
    above = problem.alpha * signals - math.log(problem.rho_max)
    found = []
    for column in np.unique(above, axis=1).T:
        for i in np.flatnonzero(np.sign(column[1:]) * np.sign(column[:-1]) <= 0):
            jump = column[i + 1] - column[i]
            if jump != 0.0:
                found.append(scan[i] - column[i] * (scan[i + 1] - scan[i]) / jump)
    return found


def _kinks(process: Process, layout: Layout, lo: float, hi: float) -> list[float]:
    """Where on (lo, hi) some signal that enters the coefficients meets log(rho_max) / alpha."""
    problem, chain = process.problem, process.chain
    scan, found = np.linspace(lo, hi, 4096), []
    if chain.tracks_memory:
        signals = scan[:, None]
    else:
        thetas = layout.states(0.0, scan)
        with jax.enable_x64(True):
            per_example, population = in_blocks(lambda block: _signals(problem, block), thetas)
        signals = population[:, None]
        if isinstance(chain, (MinibatchPGPO, RememberingPGPO, StateChain)):
            fractions = process._batches.fractions
            some = block_of(len(scan))
            for first in range(0, len(fractions), some):
                found += _meets(problem, scan, per_example @ fractions[first : first + some].T)
    found += _meets(problem, scan, signals)
    kinks = []
    for kink in sorted(found):
        if lo + 1e-6 < kink < hi - 1e-6 and (not kinks or kink - kinks[-1] > 1e-6):
            kinks.append(float(kink))
    if len(kinks) > _MOST_KINKS:
        raise PGPOValueError(
            f"{process.name} has {len(kinks)} kinks, more than the exact engine handles "
            f"({_MOST_KINKS}); use softmin or a smaller batch_size"
        )
    return kinks
