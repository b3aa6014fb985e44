"""The underdamped particle, stepped by diffrax's Langevin solvers with friction frozen per step."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from sde._control_variate import Estimate, Moments, products
from sde._simulate_ensemble import CHUNK, even_chunks, gather, over_chunks
from sde.viscous._fluid import Fluid

LANGEVIN_SOLVERS = {
    "align": (diffrax.ALIGN, diffrax.SpaceTimeLevyArea),
    "should": (diffrax.ShOULD, diffrax.SpaceTimeTimeLevyArea),
    "quicsort": (diffrax.QUICSORT, diffrax.SpaceTimeTimeLevyArea),
}
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
    *constant* friction only: the exponentials of a step are computed once. So friction and kick
    are frozen over each step, at the ballistic midpoint `x + v h/2`, while the force is evaluated
    inside the step; each step is one step of the solver with

        gamma = 1/(m rho),   u = s^2/(2 m^2 gamma),   grad f = grad L/(m u).

    The freezing is harmless only while a step is short against the relaxation time m rho. With
    `freeze="start"` and steps long against it, the particle forgets its velocity under the
    viscosity it *had*, and the noise-induced drift is lost: that, and not the limit m -> 0, is
    what an optimizer does when it fixes rho for one step.

    Args:
        fluid: what the particle swims in.
        mass: m > 0, in units where mobility has unit scale.
        horizon: the final time.
        paths: how many particles.
        key: a PRNG key.
        steps_per_relaxation: steps per time m.
        solver: "align", "should" or "quicsort".
        freeze: where friction and kick are evaluated, "middle" or "start" of the step.
        chunk: particles simulated at a time.

    Returns:
        positions, shape [paths], NumPy float64.

    Raises:
        ValueError: a mass, horizon, paths or rate not > 0, or an unknown name.
    """
    _check(mass, horizon, steps_per_relaxation, solver, freeze)
    size = even_chunks(paths, chunk)
    with jax.enable_x64(True):
        program = _program(fluid, mass, horizon, steps_per_relaxation, solver, freeze, size)
        label = f"particle m={mass:g}"
        rows = gather(lambda k: program(k)[0][:, None], key, paths, size, 1, label=label)
        return rows[:, 0]


def particle_expectations(
    fluid: Fluid,
    observables: Sequence[Callable[[Float[Array, " n"]], Float[Array, " n"]]],
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
    """Expectations of functions of the position, with the linearised noise as control variate.

    Any sum of the path's own Brownian increments with deterministic weights has mean 0 and a known
    variance; the weights are those of the linearised overdamped path. `paths` is rounded up to
    whole chunks. Other arguments as in `simulate_particle`.
    """
    _check(mass, horizon, steps_per_relaxation, solver, freeze)
    size = even_chunks(paths, chunk)
    with jax.enable_x64(True):
        program = _program(fluid, mass, horizon, steps_per_relaxation, solver, freeze, size)

        def sums(k: PRNGKeyArray) -> Float[Array, "m m"]:
            x, martingale, variance = program(k)
            values = jnp.stack([g(x) for g in observables], axis=1)
            return products(values, jnp.stack([martingale, martingale**2 - variance], axis=1))

        moments = Moments(len(observables))
        for part in over_chunks(sums, key, math.ceil(paths / size), label=f"particle m={mass:g}"):
            moments.add(part)
        return moments.estimate()


def _program(
    fluid: Fluid,
    mass: float,
    horizon: float,
    steps_per_relaxation: float | int,
    solver: str,
    freeze: Freeze,
    paths: int,
) -> Callable[[PRNGKeyArray], Any]:
    steps = math.ceil(horizon / mass * steps_per_relaxation)
    h = horizon / steps
    method, levy_area = LANGEVIN_SOLVERS[solver]
    langevin = method(0.01)
    force, mobility, kick = (jax.vmap(f) for f in (fluid.force, fluid.mobility, fluid.kick_squared))
    start = jnp.full((paths,), fluid.problem.theta0[0])
    weights = _weights(fluid, steps, h)

    def run(key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        brownian = diffrax.UnsafeBrownianPath(shape=(paths,), key=key, levy_area=levy_area)

        def step(carry: tuple[Any, Array], k_weight: tuple[Array, Array]) -> tuple[Any, None]:
            (x, v), martingale = carry
            k, weight = k_weight
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
            y, _, _, _, _ = langevin.step(terms, t0, t1, (x, v), None, state, False)
            increments: Any = brownian.evaluate(t0, t1, use_levy=True)
            return (y, martingale + weight * increments.W), None

        ks = jnp.arange(steps, dtype=start.dtype)
        carry = ((start, jnp.zeros_like(start)), jnp.zeros_like(start))
        ((x, _), martingale), _ = jax.lax.scan(step, carry, (ks, weights))
        return x, martingale, h * jnp.sum(weights**2)

    return run


def _weights(fluid: Fluid, steps: int, h: float) -> Float[Array, " steps"]:
    def forward(x: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        drift, slope = jax.value_and_grad(lambda z: fluid.overdamped_drift(z[None])[0])(x)
        return x + h * drift, (slope, jnp.sqrt(fluid.overdamped_diffusion(x[None])[0, 0]))

    _, (slopes, amplitudes) = jax.lax.scan(
        forward, jnp.asarray(fluid.problem.theta0[0], dtype=float), None, length=steps
    )
    growth = jnp.cumsum((h * slopes)[::-1])[::-1] - h * slopes
    return amplitudes * jnp.exp(growth)


def _check(
    mass: float, horizon: float, steps_per_relaxation: float | int, solver: str, freeze: str
) -> None:
    for name, value in (
        ("mass", mass),
        ("horizon", horizon),
        ("steps_per_relaxation", steps_per_relaxation),
    ):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number > 0, got {value!r}")
    if solver not in LANGEVIN_SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(LANGEVIN_SOLVERS)}; got {solver!r}")
    if freeze not in ("middle", "start"):
        raise ValueError(f"freeze must be 'middle' or 'start', got {freeze!r}")
