"""Measures the small-mass limit: its rate, and the Itô equation of the limit."""

import dataclasses
import functools as ft
import itertools
import time
from collections.abc import Sequence

import jax
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, PRNGKeyArray

from pgpo_jax.errors import PGPOValueError
from sde.exact import OBSERVABLES
from sde.exact._grids import Chebyshev
from sde.order import Evidence, Finding, classify_order
from sde.viscous._fluid import Fluid
from sde.viscous._particle import Freeze, particle_expectations

MASSES = tuple(2.0**-k for k in range(3, 8))
"""Masses of the particle in a measurement, heaviest first."""


@dataclasses.dataclass(frozen=True)
class MassLimitReport:
    """The distance of the particle from two overdamped equations as its mass goes to zero.

    Dictionaries are keyed by observable; arrays run over `masses`, heaviest first.

    Attributes:
        masses: m.
        values, standard_errors: E g of the particle, by Monte Carlo.
        limits: exact E g of the limit with the noise-induced drift.
        without: exact E g of the equation without it, which is the paper's form.
        converges: findings on values - limits; "order 1" is a rate proportional to the mass.
        paper: findings on values - without. "order 0" means that the limit is another equation, at
            the exact difference of the two.
        seconds: wall time.
    """

    masses: Float[np.ndarray, " n"]
    values: dict[str, np.ndarray]
    standard_errors: dict[str, np.ndarray]
    limits: dict[str, float]
    without: dict[str, float]
    converges: dict[str, Finding]
    paper: dict[str, Finding]
    seconds: float


def overdamped_expectation(
    fluid: Fluid, observable: str, *, horizon: float = 1.0, noise_induced: bool = True
) -> tuple[float, float]:
    """Exact expectation of the overdamped equation, by a spectral generator, with its own error.

    Args:
        fluid: fluid of the particle.
        observable: a name of `sde.exact.OBSERVABLES`.
        horizon: the final time.
        noise_induced: whether the drift has the term that the small-mass limit adds.

    Returns:
        the value, and its change from a coarser resolution.
    """
    at = fluid.problem.theta0[0]
    with jax.enable_x64(True):

        def value(width: float, n: int) -> float:
            grid = Chebyshev(at - width, at + width, n)
            nodes = grid.nodes[:, None]
            b, a = map(np.asarray, _overdamped(fluid, noise_induced, nodes))
            generator = b[:, None] * grid.first + 0.5 * a[:, None] * grid.second
            start = OBSERVABLES[observable].on(nodes)
            end = scipy.linalg.expm(horizon * generator) @ start
            return float((grid.interpolate(np.array([at])) @ end)[0])

        # Without boundary conditions strong noise amplifies the ends of a wide interval, and a
        # narrow one loses mass. The width with the best agreement between resolutions is used.
        found = []
        for width in (4.0, 3.0, 2.2):
            coarse, fine = value(width, n=70), value(width, n=90)
            if np.isfinite(coarse) and np.isfinite(fine):
                found.append((abs(fine - coarse), fine))
    if not found or min(found)[0] > 1e-4:
        raise PGPOValueError(
            f"the limit of {fluid.kick!r} with strength {fluid.strength} is not resolved "
            "by the spectral generator; use a smaller strength"
        )
    error, best = min(found)
    return best, error


@ft.partial(jax.jit, static_argnums=(0, 1))
def _overdamped(
    fluid: Fluid, noise_induced: bool, nodes: Float[Array, "n 1"]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    def one(x: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        drift = fluid.overdamped_drift(x, noise_induced=noise_induced)
        return drift[0], fluid.overdamped_diffusion(x)[0, 0]

    return jax.vmap(one)(nodes)


def measure_mass_limit(
    fluid: Fluid,
    *,
    masses: Sequence[float] = MASSES,
    observables: Sequence[str] = ("mean", "m2", "cos3x"),
    horizon: float = 1.0,
    paths: int = 1 << 16,
    key: PRNGKeyArray | None = None,
    steps_per_relaxation: float | int = 4,
    solver: str = "align",
    freeze: Freeze = "middle",
) -> MassLimitReport:
    """Measure how the underdamped particle approaches its overdamped limit.

    The particle is simulated (`particle_expectations`), both candidate limits are exact, and the
    rules of `sde.Comparison.order` classify the differences, with the mass in the place of eta.

    The other arguments are those of `simulate_particle`.

    Args:
        masses: at least 5, heaviest first.
        observables: names in `sde.exact.OBSERVABLES`.

    Raises:
        ValueError: there are fewer than 5 masses, or they do not decrease; or as
            `simulate_particle`.
    """
    start = time.perf_counter()
    if len(masses) < 5 or any(b >= a for a, b in itertools.pairwise(masses)):
        raise PGPOValueError(f"masses must be at least 5 and decrease, got {tuple(masses)}")
    unknown = [name for name in observables if name not in OBSERVABLES]
    if unknown:
        raise PGPOValueError(
            f"unknown observable {unknown[0]!r}; there are {', '.join(OBSERVABLES)}"
        )
    key = jax.random.key(0) if key is None else key
    rungs = [
        particle_expectations(
            fluid,
            observables,
            mass=mass,
            horizon=horizon,
            paths=paths,
            key=jax.random.fold_in(key, row),
            steps_per_relaxation=steps_per_relaxation,
            solver=solver,
            freeze=freeze,
        )
        for row, mass in enumerate(masses)
    ]
    at = np.asarray(masses, dtype=float)
    values = {g: np.array([r.values[k] for r in rungs]) for k, g in enumerate(observables)}
    errors = {g: np.array([r.standard_errors[k] for r in rungs]) for k, g in enumerate(observables)}
    limits, without, converges, paper = {}, {}, {}, {}
    for name in observables:
        limits[name], blur = overdamped_expectation(fluid, name, horizon=horizon)
        without[name], _ = overdamped_expectation(fluid, name, horizon=horizon, noise_induced=False)

        def evidence(limit: float, floor: float, name: str = name, blur: float = blur) -> Evidence:
            return Evidence(
                name, at, values[name] - limit, errors[name], None, 0 * at, floor, blur, paths
            )

        converges[name] = classify_order(evidence(limits[name], 0.0))
        paper[name] = classify_order(evidence(without[name], limits[name] - without[name]))
    return MassLimitReport(
        at, values, errors, limits, without, converges, paper, time.perf_counter() - start
    )
