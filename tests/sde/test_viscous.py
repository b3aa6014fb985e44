"""The viscous particle: its limit, the drift that noise induces, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sde
from sde.viscous import Fluid, overdamped_expectation, particle_expectations, simulate_particle

KEY = jax.random.key(3)
FLUID = Fluid(sde.PROBLEMS["student_teacher"], "gradient", 0.25)


def test_noise_induced_drift_is_half_the_slope_of_the_diffusion_for_a_constant_kick():
    # With s constant the limit is the Stratonovich reading: half sigma sigma'.
    x = jnp.asarray(0.3)
    fluid = Fluid(sde.PROBLEMS["student_teacher"], "thermal", 0.1)

    def sigma(z):
        return fluid.mobility(z) * jnp.sqrt(fluid.kick_squared(x))

    assert jnp.allclose(
        fluid.noise_induced_drift(x), 0.5 * sigma(x) * jax.grad(sigma)(x), rtol=1e-10
    )
    # Fluctuation and dissipation: T rho'.
    assert jnp.allclose(fluid.noise_induced_drift(x), 0.1 * jax.grad(fluid.mobility)(x), rtol=1e-10)


@pytest.mark.slow
def test_a_light_particle_obeys_the_limit_with_the_noise_induced_drift_and_not_the_papers():
    limit, _ = overdamped_expectation(FLUID, "mean")
    paper, _ = overdamped_expectation(FLUID, "mean", noise_induced=False)
    assert limit - paper > 0.005

    def distance(mass):
        e = particle_expectations(FLUID, ["mean"], mass=mass, paths=8192, key=KEY)
        return e.values[0], e.standard_errors[0]

    heavy, _ = distance(1 / 16)
    light, error = distance(1 / 32)
    # First order in the mass: extrapolation lands on one of the two and not on the other.
    extrapolated = 2 * light - heavy
    assert abs(extrapolated - limit) < abs(extrapolated - paper)
    assert abs(light - limit) < 0.6 * abs(heavy - limit) + 3 * error


@pytest.mark.slow
def test_freezing_the_viscosity_over_long_steps_gives_the_papers_equation():
    limit, _ = overdamped_expectation(FLUID, "mean")
    paper, _ = overdamped_expectation(FLUID, "mean", noise_induced=False)
    e = particle_expectations(
        FLUID,
        ["mean"],
        mass=2.0**-11,
        paths=16384,
        key=KEY,
        steps_per_relaxation=1 / 16,
        freeze="start",
    )
    assert abs(e.values[0] - paper) < abs(e.values[0] - limit)


@pytest.mark.slow
def test_another_langevin_solver_agrees():
    how = {"mass": 1 / 8, "paths": 4096, "key": KEY}
    a = particle_expectations(FLUID, ["mean"], **how)
    b = particle_expectations(FLUID, ["mean"], solver="quicsort", **how)
    assert abs(a.values[0] - b.values[0]) < 5 * np.hypot(a.standard_errors[0], b.standard_errors[0])


@pytest.mark.slow
def test_samples():
    x = simulate_particle(FLUID, mass=1 / 4, paths=20, key=KEY, chunk=8)
    assert x.shape == (20,)
    assert len(np.unique(x)) == 20


def test_refusals():
    with pytest.raises(ValueError, match="one-dimensional"):
        Fluid(sde.PROBLEMS["torus"])
    with pytest.raises(ValueError, match="strength"):
        Fluid(sde.PROBLEMS["logistic"], "thermal", 0.0)
    with pytest.raises(ValueError, match="mass must be"):
        simulate_particle(FLUID, mass=0.0, paths=4, key=KEY)
    with pytest.raises(ValueError, match="solver must be one of align"):
        simulate_particle(FLUID, mass=1.0, paths=4, key=KEY, solver="euler")
    with pytest.raises(ValueError, match="paths must be"):
        simulate_particle(FLUID, mass=1.0, paths=0, key=KEY)
