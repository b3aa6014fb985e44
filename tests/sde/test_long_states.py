"""Noise of a long state: made of deviations, at a cost that is linear in its length."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sde
from benchmarks.long_states import Springs
from sde import _equations
from sde._setting import Setting
from sde.monte_carlo import _checks, _ensemble
from sde.monte_carlo._checks import ito_to_stratonovich
from sde.monte_carlo._simulate import coefficients_of

KEY = jax.random.key(11)
EXAMPLES = 6


def springs(length=24):
    return Springs(theta0=(1.0,) * length, examples=EXAMPLES)


def coefficients(problem, equation, chain, eta=0.125):
    made = sde.EQUATIONS[equation], sde.as_chain(chain)
    with jax.enable_x64(True):
        return coefficients_of(problem, *made, 1, True)(eta)


@pytest.mark.parametrize("problem", ["torus", "student_teacher", springs()], ids=["2", "1", "24"])
@pytest.mark.parametrize(
    ("equation", "chain"),
    [
        ("eq7", "sgd"),
        ("consistent", "pgpo_population"),
        ("corrected", "pgpo_minibatch"),
        ("second_order", "pgpo_minibatch"),
        ("augmented", dataclasses.replace(sde.CHAINS["pgpo_ema"], beta=None, rate=2.0)),
    ],
)
def test_deviations_have_the_covariance(problem, equation, chain, x64):
    found = coefficients(sde.as_problem(problem), equation, chain)
    state = jnp.asarray(found.x0) + 0.1
    rows = found.deviations(state)
    np.testing.assert_allclose(rows.T @ rows, found.diffusion_matrix(state), atol=1e-13)
    assert float(jnp.max(jnp.abs(rows))) > 1e-3


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_deviations_of_larger_batches(batch_size, x64):
    setting = Setting(springs(20), 0.125, batch_size, replace=False)
    chain, state = sde.CHAINS["sgd"], springs(20).start
    rows = chain.deviations(setting, state)
    np.testing.assert_allclose(rows.T @ rows, chain.covariance(setting, state), atol=1e-13)


def test_short_states_and_own_diffusions_have_a_root(x64):
    assert not coefficients(springs(16), "eq7", "sgd").factored
    assert coefficients(springs(17), "eq7", "sgd").factored
    own = dataclasses.replace(
        sde.EQUATIONS["eq7"], diffusion=lambda chain, setting, x: jnp.eye(x.shape[0])
    )
    built = own.build(springs(24), sde.CHAINS["sgd"], eta=0.125)
    assert not built.factored
    np.testing.assert_array_equal(built.diffusion(jnp.asarray(built.x0)), jnp.eye(24))


def test_a_chain_of_your_own_has_deviations(x64):
    def advance(problem, state, examples, eta):
        (theta,) = state
        return (theta - eta * problem.gradients(theta)[examples].mean(0),)

    chain = sde.StateChain(lambda problem: (problem.start,), advance, name="descent")
    found = coefficients(springs(24), "corrected", chain)
    assert found.factored
    state = jnp.asarray(found.x0)
    rows = found.deviations(state)
    np.testing.assert_allclose(rows.T @ rows, found.diffusion_matrix(state), atol=1e-13)


def linear_moments(eta=1 / 8):
    """Mean and variance of a coordinate at t = 1, where dX = -(X - c) dt + sqrt(eta) D^T dW."""
    problem = springs(24)
    with jax.enable_x64(True):
        rows = Setting(problem, eta).gradient_deviations(problem.start)[:, 5]
        centre = problem.centres()[:, 5].mean()
        mean = centre + (1.0 - centre) * jnp.exp(-1.0)
        variance = eta * (rows @ rows) * (1 - jnp.exp(-2.0)) / 2
    return np.array([mean, variance])


def moments(equation, **changes):
    """The same two numbers by paths, with standard errors."""
    how = {"chain": "sgd", "eta": 1 / 8, "paths": 2000, "key": KEY, "control_variate": False}
    mean = float(linear_moments()[0])
    wanted = [lambda theta: theta[5], lambda theta: (theta[5] - mean) ** 2]
    return sde.estimate_equation(springs(24), equation, wanted, **how | changes)


@pytest.mark.slow
def test_moments_are_those_of_the_linear_equation():
    expected = linear_moments()
    found = moments("eq7")
    assert np.all(np.abs(found.values - expected) < 4 * found.standard_errors)
    assert expected[1] > 20 * found.standard_errors[1]
    # Without the factor eta the variance is another one.
    wrong = moments("thm2i_literal")
    assert abs(wrong.values[1] - expected[1]) > 20 * wrong.standard_errors[1]


@pytest.mark.slow
def test_deviations_and_the_root_have_one_law(monkeypatch):
    found = moments("eq7")
    coefficients_of.cache_clear()
    monkeypatch.setattr(_equations, "_MOST_DENSE", 1000)
    rooted = moments("eq7", key=jax.random.key(12))
    noise = np.hypot(found.standard_errors, rooted.standard_errors)
    assert np.all(np.abs(found.values - rooted.values) < 4 * noise)
    assert np.any(found.values != rooted.values)


def flops(length):
    """Of a path's drift and noise, by the compiler."""
    found = coefficients(springs(length), "corrected", "pgpo_minibatch")

    def step(state, increment):
        return found.drift(state) + found.diffusion(state) @ increment

    with jax.enable_x64(True):
        state = jnp.asarray(found.x0)
        width = jax.eval_shape(found.diffusion, state).shape[1]
        return jax.jit(step).lower(state, jnp.zeros(width)).compile().cost_analysis()["flops"]


def test_the_cost_of_a_step_is_linear_in_the_length(monkeypatch):
    few, many = flops(125), flops(1000)
    assert 6 < many / few < 9
    # A matrix and its root are not.
    monkeypatch.setattr(_equations, "_MOST_DENSE", 1000)
    assert flops(200) / flops(50) > 12


@pytest.mark.slow
def test_a_thousand_dimensions(x64):
    """The order of the loss, with chunks that fit into memory."""
    how = {"chain": "sgd", "eta": 1 / 8, "paths": 64, "key": KEY}
    ends = sde.simulate(springs(1000), "eq7", substeps=2, **how)
    assert ends.shape == (64, 1000)
    assert 0.001 < np.std(ends, axis=0).mean() < 1


def test_the_stratonovich_drift_of_a_wide_sigma_is_the_same_sum(monkeypatch, x64):
    wide = coefficients(springs(20), "corrected", "pgpo_minibatch")
    state = jnp.asarray(wide.x0)
    unrolled = ito_to_stratonovich(wide)(state)
    monkeypatch.setattr(_checks, "_UNROLLED", 2)
    looped = ito_to_stratonovich(wide)(state)
    np.testing.assert_allclose(looped, unrolled, atol=1e-14)
    assert float(jnp.max(jnp.abs(looped - wide.drift(state)))) > 1e-6


@pytest.mark.slow
def test_paths_whose_noise_is_large_come_in_smaller_chunks(monkeypatch):
    how = {"chain": "sgd", "eta": 1 / 2, "paths": 6, "key": KEY}
    whole = sde.simulate(springs(), "eq7", **how)
    by_hand = sde.simulate(springs(), "eq7", chunk=2, **how)
    monkeypatch.setattr(_ensemble, "_MOST_NUMBERS", 2 * 24 * EXAMPLES)
    np.testing.assert_array_equal(sde.simulate(springs(), "eq7", **how), by_hand)
    assert np.any(by_hand != whole)
