"""Ordinary differential equations: the limit of every chain, in any dimension."""

import functools as ft
from collections.abc import Callable

import numpy as np
import scipy.integrate
from jaxtyping import Float

from pgpo_jax.errors import PGPOValueError
from sde.exact._observables import Observable
from sde.exact._process import Process

LADDER = (1e-9, 1e-12)


def flow(
    drift: Callable[[Float[np.ndarray, " m"]], Float[np.ndarray, " m"]],
    start: Float[np.ndarray, " m"],
    times: Float[np.ndarray, " K"],
    tolerance: float,
) -> Float[np.ndarray, "K m"]:
    """The solution of dx/dt = drift(x) at `times` (Dormand-Prince 8(5,3))."""
    solution = scipy.integrate.solve_ivp(
        lambda _, x: drift(x),
        (0.0, float(times[-1])),
        start,
        method="DOP853",
        t_eval=times,
        rtol=max(tolerance, 3e-14),
        atol=tolerance,
        max_step=float(times[-1]) / 16,
    )
    if not solution.success:
        raise PGPOValueError(f"the noise-free path could not be followed: {solution.message}")
    return solution.y.T


def ode_values(
    process: Process, observables: tuple[Observable, ...], steps: int, level: int
) -> Float[np.ndarray, "K O"]:
    """g(x(k eta)) for k = 0..steps and every observable, at one tolerance."""
    thetas = _path(process, steps, level)[:, : process.problem.dim]
    return np.stack([o.on(thetas) for o in observables], axis=1)


# One path serves every observable, and one chain's limit every equation that claims to track it.
@ft.lru_cache(maxsize=128)
def _path(process: Process, steps: int, level: int) -> Float[np.ndarray, "K m"]:
    times = process.eta * np.arange(steps + 1)
    return flow(process.drift, process.start, times, LADDER[level])
