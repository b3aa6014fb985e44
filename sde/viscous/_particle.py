"""Simulates the underdamped particle by diffrax's Langevin solvers, one step at a time."""

import functools as ft
import math
from collections.abc import Callable
from typing import Any, Literal

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pgpo_jax.errors import PGPOValueError
from sde.exact import as_observable
from sde.monte_carlo import (
    CHUNK,
    Estimate,
    Observables,
    estimate_in_chunks,
    even_chunks,
    gather,
    moment_sums,
)
from sde.viscous._fluid import Fluid

LANGEVIN_SOLVERS = {
    "align": (diffrax.ALIGN, diffrax.SpaceTimeLevyArea),
    "should": (diffrax.ShOULD, diffrax.SpaceTimeTimeLevyArea),
    "quicsort": (diffrax.QUICSORT, diffrax.SpaceTimeTimeLevyArea),
}
"""diffrax's solvers of the underdamped equation by name, each with the Brownian motion it needs."""
Freeze = Literal["middle", "start"]


def simulate_particle(
    fluid: Fluid,
    *,
    mass: float,
    horizon: float = 1.0,
    paths: int,
    key: PRNGKeyArray,
    steps_per_relaxation: float | int = 4,
    solver: str = "align",
    freeze: Freeze = "middle",
    chunk: int = CHUNK,
) -> Float[np.ndarray, " paths"]:
    r"""Positions at the horizon of underdamped particles that start at rest at theta0.

    diffrax's Langevin solvers integrate `dv = -gamma v - u grad f(x) + sqrt(2 gamma u) dW` for
    *constant* friction only, because the exponentials of a step are computed once. So friction and
    kick are frozen over each step, at the ballistic midpoint `x + v h/2`. The force is evaluated
    inside the step. Each step is one step of the solver with

        gamma = 1/(m rho),   u = s^2/(2 m^2 gamma),   grad f = grad L/(m u).

    The freezing is harmless only if a step is short against the relaxation time m rho. With
    `freeze="start"` and long steps, the velocity relaxes under the viscosity at the start of the
    step, and the noise-induced drift is lost. An optimizer that fixes rho for one step is this
    case, not the limit m -> 0.

    Args:
        fluid: fluid of the particle.
        mass: m > 0, in units where mobility has unit scale.
        horizon: the final time.
        paths: how many particles.
        key: a PRNG key.
        steps_per_relaxation: steps per time m.
        solver: "align", "should" or "quicsort".
        freeze: point of the step at which friction and kick are evaluated, "middle" or "start".
        chunk: particles simulated at a time.

    Returns:
        positions, shape [paths], NumPy float64.

    Raises:
        ValueError: a mass, horizon, number of paths or rate is not > 0, or a name is unknown.
    """
    size = even_chunks(paths, chunk)
    args = _steps(mass, horizon, steps_per_relaxation, solver, freeze)
    with jax.enable_x64(True):
        program = _program(fluid, solver, freeze, size)
        return gather(program, key, paths, size, 1, *args, label=f"particle m={mass:g}")[:, 0]


def particle_expectations(
    fluid: Fluid,
    observables: Observables,
    *,
    mass: float,
    horizon: float = 1.0,
    paths: int,
    key: PRNGKeyArray,
    steps_per_relaxation: float | int = 4,
    solver: str = "align",
    freeze: Freeze = "middle",
    chunk: int = CHUNK,
) -> Estimate:
    """Expectations of observables of the position, with the linearised noise as control variate.

    The control is the fluctuation of the overdamped equation, linearised along its noise-free path
    and driven by the particle's own Brownian increments. Its mean is 0 and its variance is known.
    `paths` is rounded up to whole chunks. Other arguments are those of `simulate_particle`.
    """
    size = even_chunks(paths, chunk)
    args = _steps(mass, horizon, steps_per_relaxation, solver, freeze)
    functions = tuple(as_observable(g) for g in observables)
    with jax.enable_x64(True):
        program = moment_sums(_program(fluid, solver, freeze, size), functions)
        return estimate_in_chunks(
            program, functions, key, paths, size, args, f"particle m={mass:g}"
        )


@ft.lru_cache(maxsize=32)
def _program(
    fluid: Fluid, solver: str, freeze: Freeze, paths: int
) -> Callable[..., tuple[Array, Array]]:
    """A function (key, mass, h, steps) -> positions [paths, 1] and their controls [paths, 2]."""
    method, levy_area = LANGEVIN_SOLVERS[solver]
    langevin = method(0.01)
    force, mobility, kick = (jax.vmap(f) for f in (fluid.force, fluid.mobility, fluid.kick_squared))

    def overdamped(x: Float[Array, ""]) -> Float[Array, ""]:
        return fluid.overdamped_drift(x[None])[0]

    def run(
        key: PRNGKeyArray, mass: Float[Array, ""], h: Float[Array, ""], steps: Int[Array, ""]
    ) -> tuple[Array, Array]:
        brownian = diffrax.UnsafeBrownianPath(shape=(paths,), key=key, levy_area=levy_area)

        def step(k: Int[Array, ""], carry: tuple[Any, ...]) -> tuple[Any, ...]:
            x, v, fluctuation, centre, variance = carry
            where = x + (h / 2) * v if freeze == "middle" else x
            gamma = 1 / (mass * mobility(where))
            u = kick(where) / (2 * mass**2 * gamma)
            terms = diffrax.MultiTerm(
                diffrax.UnderdampedLangevinDriftTerm(gamma, u, lambda z, _: -force(z) / (mass * u)),
                diffrax.UnderdampedLangevinDiffusionTerm(gamma, u, brownian),
            )
            t0, t1 = k * h, (k + 1) * h
            # A fresh solver state per step: the coefficients belong to the frozen friction.
            state = langevin.init(terms, t0, t1, (x, v), None)
            (x, v), _, _, _, _ = langevin.step(terms, t0, t1, (x, v), None, state, False)
            increments: Any = brownian.evaluate(t0, t1, use_levy=True)
            drift, slope = jax.value_and_grad(overdamped)(centre)
            growth, noise = 1 + h * slope, fluid.overdamped_diffusion(centre[None])[0, 0]
            return (
                x,
                v,
                growth * fluctuation + jnp.sqrt(noise) * increments.W,
                centre + h * drift,
                growth**2 * variance + h * noise,
            )

        x0 = jnp.asarray(fluid.problem.theta0[0])
        x, still = jnp.full((paths,), x0), jnp.zeros((paths,))
        carry = (x, still, still, x0, jnp.zeros(()))
        x, _, fluctuation, _, variance = jax.lax.fori_loop(0, steps, step, carry)
        return x[:, None], jnp.stack([fluctuation, fluctuation**2 - variance], axis=1)

    return run


def _steps(
    mass: float, horizon: float, steps_per_relaxation: float | int, solver: str, freeze: str
) -> tuple[float, float, int]:
    """(mass, h, how many steps), after everything that can be refused has been."""
    for name, value in (
        ("mass", mass),
        ("horizon", horizon),
        ("steps_per_relaxation", steps_per_relaxation),
    ):
        if not (math.isfinite(value) and value > 0):
            raise PGPOValueError(f"{name} must be a finite number > 0, got {value!r}")
    if solver not in LANGEVIN_SOLVERS:
        raise PGPOValueError(f"solver must be one of {', '.join(LANGEVIN_SOLVERS)}; got {solver!r}")
    if freeze not in ("middle", "start"):
        raise PGPOValueError(f"freeze must be 'middle' or 'start', got {freeze!r}")
    steps = math.ceil(horizon / mass * steps_per_relaxation)
    return float(mass), horizon / steps, steps
