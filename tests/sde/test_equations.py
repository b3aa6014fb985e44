"""Chains and equations: b, S, the drift corrections, and what is refused."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sde
from sde._minibatches import covariance_factor, minibatches
from sde._psd import psd_root

THETA = jnp.asarray([0.2])


def brute_force(problem, batch_size, replace, theta):
    """All ordered draws, one by one."""
    gradients, signals = np.asarray(problem.gradients(theta)), np.asarray(problem.signals(theta))
    indices = range(problem.num_examples)
    if replace:
        draws = itertools.product(indices, repeat=batch_size)
    else:
        draws = itertools.permutations(indices, batch_size)
    steps = []
    for draw in draws:
        rho = float(problem.multiplier(jnp.asarray(signals[list(draw)].mean())))
        steps.append(-rho * gradients[list(draw)].mean(axis=0))
    steps = np.array(steps)
    return steps.mean(axis=0), np.cov(steps.T, bias=True).reshape(theta.size, theta.size)


@pytest.mark.parametrize(
    ("size", "replace"),
    [
        (3, True),
        (2, False),
        *(pytest.param(*x, marks=pytest.mark.slow) for x in ((1, True), (4, False))),
    ],
)
@pytest.mark.parametrize("name", ["double_well", "torus"])
def test_minibatch_drift_and_covariance_by_brute_force(name, size, replace):
    problem = sde.PROBLEMS[name]
    setting = sde.Setting(problem, 0.1, size, replace)
    drift, covariance = brute_force(problem, size, replace, problem.start)
    chain = sde.CHAINS["pgpo_minibatch"]
    np.testing.assert_allclose(chain.drift(setting, problem.start), drift, atol=1e-13)
    np.testing.assert_allclose(chain.covariance(setting, problem.start), covariance, atol=1e-13)


def test_covariance_factor_is_that_of_the_enumeration():
    problem = sde.PROBLEMS["logistic"]
    for size, replace in ((1, True), (3, True), (2, False), (5, False)):
        batches = minibatches(5, size, replace)
        gradients = batches.fractions @ np.asarray(problem.gradients(THETA))
        mean = batches.probabilities @ gradients
        variance = batches.probabilities @ (gradients - mean) ** 2
        setting = sde.Setting(problem, 0.1, size, replace)
        np.testing.assert_allclose(
            setting.gradient_covariance(THETA)[0, 0], variance[0], atol=1e-14
        )
    assert covariance_factor(5, 5, False) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "pgpo_population", "pgpo_minibatch"])
def test_one_step_of_the_chain_has_the_moments_it_says(name):
    problem, chain, eta = sde.PROBLEMS["torus"], sde.CHAINS[name], 0.1
    setting = sde.Setting(problem, eta, 2)
    fractions = jnp.asarray(setting.batches.fractions)
    weights = setting.batches.probabilities
    moved = jax.vmap(lambda f: chain.step(problem, problem.start, f, eta))(fractions)
    steps = np.asarray((moved - problem.start) / eta)
    np.testing.assert_allclose(weights @ steps, chain.drift(setting, problem.start), atol=1e-13)
    centred = steps - weights @ steps
    np.testing.assert_allclose(
        (weights[:, None] * centred).T @ centred,
        chain.covariance(setting, problem.start),
        atol=1e-13,
    )


def test_floor_of_the_drift_is_the_covariance_and_jensen_terms():
    # The covariance and the Jensen term for rho = exp(alpha I), to first order in 1/|B|.
    problem = sde.PROBLEMS["double_well"]
    theta, size = THETA, 12
    setting = sde.Setting(problem, 0.1, size)
    delta = sde.CHAINS["pgpo_minibatch"].drift(setting, theta) - sde.CHAINS[
        "pgpo_population"
    ].drift(setting, theta)
    i, g = np.asarray(problem.signals(theta)), np.asarray(problem.gradients(theta))[:, 0]
    alpha, rho = problem.alpha, np.exp(problem.alpha * i.mean())
    covariance = np.mean((i - i.mean()) * (g - g.mean()))
    predicted = -rho / size * (alpha * covariance + 0.5 * alpha**2 * i.var() * g.mean())
    assert abs(float(delta[0]) / predicted - 1) < 0.05


def test_delayed_signal_keeps_the_stationary_points_and_the_same_minibatch_does_not():
    problem = sde.PROBLEMS["quadratic"]
    setting = sde.Setting(problem, 0.1)
    minimum = jnp.asarray([-0.025])
    assert abs(float(sde.CHAINS["pgpo_delayed"].drift(setting, minimum)[0])) < 1e-14
    assert abs(float(sde.CHAINS["pgpo_minibatch"].drift(setting, minimum)[0])) > 0.1
    moved = jnp.asarray([0.204668685])
    assert abs(float(sde.CHAINS["pgpo_minibatch"].drift(setting, moved)[0])) < 1e-8


@pytest.mark.slow
def test_averaged_covariance_is_that_of_a_long_run_of_steps():
    # The variance of the sum of n steps at frozen theta, per step, from the exact law of (J, sum).
    problem, beta, n = sde.PROBLEMS["quadratic"], 0.3, 400
    for lagged in (True, False):
        chain = dataclasses.replace(sde.CHAINS["pgpo_ema"], beta=beta, lagged=lagged)
        setting = sde.Setting(problem, 0.1)
        expected = float(chain.covariance(setting, problem.start)[0, 0])
        gradients = np.asarray(problem.gradients(problem.start))[:, 0]
        signals = np.asarray(problem.signals(problem.start))
        rng = np.random.default_rng(0)
        draws = rng.integers(0, 4, size=(n + 50, 8000))
        mean, total = np.zeros(8000), np.zeros(8000)
        for k, draw in enumerate(draws):
            fresh = beta * mean + (1 - beta) * signals[draw]
            if k >= 50:
                total += np.exp(problem.alpha * (mean if lagged else fresh)) * gradients[draw]
            mean = fresh
        assert abs(total.var() / n / expected - 1) < 0.06


def test_second_order_drift_by_hand_and_the_gradient_form_differs_in_two_dimensions():
    problem, chain, eta = sde.PROBLEMS["torus"], sde.CHAINS["pgpo_population"], 0.1
    setting = sde.Setting(problem, eta)
    jacobian = jax.jit(jax.jacfwd(lambda x: chain.drift(setting, x)))(problem.start)
    mean = jax.jit(lambda x: chain.drift(setting, x))(problem.start)
    drifts = {
        name: jax.jit(sde.EQUATIONS[name].build(problem, chain, eta=eta).drift)(problem.start)
        for name in ("second_order", "second_order_gradient_form")
    }
    np.testing.assert_allclose(drifts["second_order"], mean - eta / 2 * jacobian @ mean, atol=1e-13)
    np.testing.assert_allclose(
        drifts["second_order_gradient_form"], mean - eta / 2 * jacobian.T @ mean, atol=1e-13
    )
    assert np.max(np.abs(drifts["second_order"] - drifts["second_order_gradient_form"])) > 1e-4


@pytest.mark.slow
def test_diffusions_differ_as_their_formulas_say():
    problem, eta = sde.PROBLEMS["student_teacher"], 1 / 16
    chain = sde.CHAINS["pgpo_population"]

    def matrix(name):
        equation = sde.EQUATIONS[name].build(problem, chain, eta=eta)
        return float(jax.jit(equation.diffusion_matrix)(THETA)[0, 0])

    rho = float(problem.multiplier(problem.information(THETA)))
    assert np.isclose(matrix("thm2ii_literal") * eta, matrix("thm2ii"))
    assert np.isclose(matrix("consistent"), rho**2 * matrix("thm2ii"))
    assert matrix("ode") == 0.0
    assert np.isclose(matrix("second_order_unchanged_diffusion"), matrix("eq7"))


def test_augmented_state_shares_the_minibatch_between_theta_and_signal():
    chain = dataclasses.replace(sde.CHAINS["pgpo_ema"], beta=None, rate=2.0)
    problem, eta = sde.PROBLEMS["quadratic"], 1 / 16
    equation = sde.EQUATIONS["augmented"].build(problem, chain, eta=eta)
    state = jnp.asarray([0.3, 0.1])
    rho = float(problem.multiplier(state[1]))
    g, i = np.asarray(problem.gradients(state[:1]))[:, 0], np.asarray(problem.signals(state[:1]))
    shared = np.mean((g - g.mean()) * (i - i.mean()))
    matrix = equation.diffusion_matrix(state)
    np.testing.assert_allclose(matrix[0, 1], -eta * 2.0 * rho * shared, rtol=1e-12)
    np.testing.assert_allclose(matrix[0, 0], eta * rho**2 * g.var(), rtol=1e-12)
    np.testing.assert_allclose(
        equation.drift(state), [-rho * g.mean(), 2.0 * (i.mean() - 0.1)], rtol=1e-12
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_roots_square_to_the_matrix_and_have_finite_derivatives_at_zero(size):
    factor = jax.random.normal(jax.random.key(0), (size, size))
    matrix = factor @ factor.T
    root = psd_root(matrix)
    np.testing.assert_allclose(root @ root, matrix, atol=1e-12)
    np.testing.assert_allclose(root, root.T, atol=1e-13)
    if size < 3:
        derivative = jax.jacfwd(psd_root)(jnp.zeros((size, size)))
        assert np.all(np.isfinite(derivative))
    rank_one = jnp.outer(factor[0], factor[0])
    np.testing.assert_allclose(psd_root(rank_one) @ psd_root(rank_one), rank_one, atol=1e-7)


def test_a_diffusion_that_is_none_is_refused_before_anything_starts():
    broken = dataclasses.replace(
        sde.EQUATIONS["eq7"],
        diffusion=lambda chain, setting, state: -setting.gradient_covariance(state),
    )
    with pytest.raises(ValueError, match="positive semi-definite"):
        broken.build(sde.PROBLEMS["logistic"], sde.CHAINS["sgd"], eta=0.1)
    with pytest.raises(ValueError, match="positive semi-definite"):
        sde.exact_expectation("logistic", broken, "mean", eta=1 / 8, chain="sgd")


@pytest.mark.parametrize(
    ("equation", "chain", "problem", "message"),
    [
        ("second_order", "pgpo_population", "sliding_kink", "smooth"),
        ("second_order", "pgpo_ema", "quadratic", "without memory"),
        ("averaged", "sgd", "quadratic", "fixed beta"),
        ("augmented", "pgpo_ema", "quadratic", "rate"),
        ("averaged", "pgpo_ema", "sliding_kink", "rho_max"),
    ],
)
def test_meaningless_combinations_are_refused(equation, chain, problem, message):
    with pytest.raises(ValueError, match=message):
        sde.EQUATIONS[equation].build(sde.PROBLEMS[problem], sde.CHAINS[chain], eta=0.1)


def test_order_two_of_plain_sgd_does_not_care_about_the_cap():
    sde.EQUATIONS["second_order"].build(sde.PROBLEMS["sliding_kink"], sde.CHAINS["sgd"], eta=0.1)


def test_unknown_names_and_sizes_say_what_exists():
    with pytest.raises(ValueError, match="pgpo_delayed"):
        sde.as_chain("adam")
    with pytest.raises(ValueError, match="thm2ii_literal"):
        sde.as_equation("thm3")
    with pytest.raises(ValueError, match="student_teacher"):
        sde.as_problem("resnet")
    with pytest.raises(ValueError, match="at most N=4"):
        minibatches(4, 5, False)
    with pytest.raises(ValueError, match="positive integer"):
        minibatches(4, 0)
    with pytest.raises(ValueError, match="200000"):
        minibatches(40, 10)
    with pytest.raises(ValueError, match="exactly one"):
        dataclasses.replace(sde.CHAINS["pgpo_ema"], rate=1.0)
    with pytest.raises(ValueError, match="beta"):
        dataclasses.replace(sde.CHAINS["pgpo_ema"], beta=1.0)
