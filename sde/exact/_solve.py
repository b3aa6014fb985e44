"""Chooses the engine, refines until two resolutions agree, and reports their difference."""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pgpo_jax.errors import PGPOValueError
from sde.exact import _deterministic, _torus
from sde.exact._layout import Layout, ladder
from sde.exact._lifted import lifted_values
from sde.exact._observables import Observable
from sde.exact._process import Process

_AFFINE_SLACK = 1e-9
# Offsets from the start at which a process is tested for being affine. No period has all of them.
_POWER_PROBES = np.array([-3.141, -1.414, -0.577, -0.089, 0.0, 0.236, 0.693, 1.732, 2.718])
_GRID_PROBES = np.array([-0.413, -0.107, 0.0, 0.291])


@dataclass(frozen=True)
class ExactPath:
    """Expectations along a process, without Monte Carlo.

    Attributes:
        values: E g(state_k), `[K + 1, observables]`.
        errors: the largest change over k from the last but one resolution, `[observables]`.
        engines: which engine answered, per observable.
    """

    values: Float[np.ndarray, "K O"]
    errors: Float[np.ndarray, " O"]
    engines: tuple[str, ...]


_Enough = Callable[[Float[np.ndarray, "K O"], Float[np.ndarray, " O"], list[int]], bool]


def exact_path(
    process: Process,
    observables: tuple[Observable, ...],
    steps: int,
    tolerance: float = 1e-10,
    *,
    enough: _Enough | None = None,
) -> ExactPath:
    """Expectations for k = 0..steps, refined until two resolutions differ by `tolerance` or less.

    If the finest resolution does not reach it, the error that it reached is reported. The caller
    has to judge it, as `weak_errors` does. `enough(values, errors, columns)`, if given, decides
    when to stop instead of `tolerance`.

    Raises:
        ValueError: no exact engine covers the process or an observable.
    """
    suffices = enough or (lambda values, errors, columns: bool(np.all(errors <= tolerance)))
    chosen = [_choose(process, observable) for observable in observables]
    values = np.empty((steps + 1, len(observables)))
    errors = np.empty(len(observables))
    for engine in dict.fromkeys(chosen):
        mine = [k for k, other in enumerate(chosen) if other == engine]
        group = tuple(observables[k] for k in mine)
        values[:, mine], errors[mine] = _refine(
            process, engine, group, steps, lambda v, e, mine=mine: suffices(v, e, mine)
        )
    names = tuple(e if isinstance(e, str) else _describe(e) for e in chosen)
    return ExactPath(values, errors, names)


def _describe(layout: Layout) -> str:
    if layout.grid is None:
        return "moments"
    return "spectral" if layout.power is None else "moments on a grid"


def _refine(process, engine, observables, steps, enough):
    if engine == "ode":
        levels = len(_deterministic.LADDER)
    elif engine == "torus":
        levels = len(_torus.LADDER)
    else:
        levels = len(ladder(process, engine))
    values = _at_level(process, engine, observables, steps, 0)
    errors = np.full(len(observables), np.inf)
    for level in range(1, levels):
        previous, values = values, _at_level(process, engine, observables, steps, level)
        errors = np.max(np.abs(values - previous), axis=0)
        if enough(values, errors):
            break
    return values, np.where(np.isfinite(errors), errors, np.inf)


# Many equations are compared with one chain, and refinement may be resumed.
@ft.lru_cache(maxsize=512)
def _at_level(process, engine, observables, steps, level):
    if engine == "ode":
        return _deterministic.ode_values(process, observables, steps, level)
    if engine == "torus":
        return _torus.torus_values(process, observables, steps, level)
    return lifted_values(process, engine, observables, steps, level)


def _choose(process: Process, observable: Observable) -> str | Layout:
    """ "ode", "torus", or the layout of a lifted state."""
    if process.equation is not None and not process.noisy:
        return "ode"
    size = len(process.start)
    if process.problem.period is not None:
        if size != 2 or process.problem.dim != 2:
            raise PGPOValueError(
                f"the exact engine of periodic problems covers two coordinates; {process.name} has "
                f"{size}. Use Monte Carlo."
            )
        return "torus"
    if size == 1:
        moments = Layout(1, 0, None)
        if observable.degree is not None and _affine(process, moments):
            return moments
        return Layout(1, None, 0)
    if size == 2 and _affine(process, Layout(2, 0, 1)):
        if observable.degree is None:
            raise PGPOValueError(
                f"{process.name} has exact moments only (mean, m2, m3, m4), got "
                f"{observable.name!r}; use Monte Carlo"
            )
        return Layout(2, 0, 1)
    raise PGPOValueError(
        f"no exact engine covers {process.name}, with {size} coordinates. An engine needs one "
        "coordinate, two periodic ones, or two with the first affine given the second. Use "
        "Monte Carlo: .order(sde.MonteCarlo()), or --method monte_carlo"
    )


@ft.lru_cache(maxsize=512)
def _affine(process: Process, layout: Layout) -> bool:
    """Whether, given the grid coordinate, the process is affine in the power coordinate."""
    x, y = layout.power, layout.grid
    assert x is not None
    grid = np.zeros(1) if y is None else float(process.start[y]) + _GRID_PROBES
    powers = float(process.start[x]) + _POWER_PROBES
    states = np.concatenate([layout.states(v, grid) for v in powers])

    def is_polynomial(values: Float[np.ndarray, "P ..."], degree: int) -> bool:
        """Whether values at `states` are, for every grid value, a polynomial in the power."""
        rows = values.reshape(len(powers), -1)
        basis, _ = np.linalg.qr(np.vander(powers, degree + 1))
        rest = rows - basis @ (basis.T @ rows)
        return float(np.max(np.abs(rest))) <= _AFFINE_SLACK * max(1.0, float(np.max(np.abs(rows))))

    if process.equation is None:
        moved = process.next_states(states)
        return is_polynomial(moved[..., x], 1) and (y is None or is_polynomial(moved[..., y], 0))
    drift, diffusion = process.coefficients(states)
    wanted = [(drift[:, x], 1), (diffusion[:, x, x], 2)]
    if y is not None:
        wanted += [(drift[:, y], 0), (diffusion[:, y, y], 0), (diffusion[:, x, y], 1)]
    return all(is_polynomial(values, degree) for values, degree in wanted)
