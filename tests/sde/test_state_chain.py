"""Chains of one's own: any pytree as a state, what is derived from a step, what is refused."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sde
from pgpo_jax.errors import PGPOTypeError, PGPOValueError

KEY = jax.random.key(3)
RATE = 2.0


def theta_of(state):
    return state["theta"]


def begin(problem):
    # In the order of a pytree, theta stands last.
    zero = jnp.zeros(problem.dim)
    return {"momentum": zero, "seen": jnp.zeros((), jnp.int32), "theta": problem.start}


def advance(problem, state, examples, eta):
    theta, momentum = state["theta"], state["momentum"]
    gradient = problem.gradients(theta)[examples].mean(0)
    momentum = momentum + RATE * eta * (gradient - momentum)
    rho = problem.multiplier(problem.signals(theta)[examples].mean())
    seen = state["seen"] + jnp.int32(1)
    return {"momentum": momentum, "seen": seen, "theta": theta - eta * rho * momentum}


MOMENTUM = sde.StateChain(begin, advance, theta_of, name="momentum")


def uncounted(problem, state, examples, eta):
    theta, momentum = state
    full = {"theta": theta, "momentum": momentum, "seen": jnp.zeros((), jnp.int32)}
    after = advance(problem, full, examples, eta)
    return after["theta"], after["momentum"]


PAIR = sde.StateChain(lambda p: (p.start, 0.3 * p.start), uncounted, name="pair")


def minibatch_step(problem, theta, examples, eta):
    rho = problem.multiplier(problem.signals(theta)[examples].mean())
    return theta - eta * rho * problem.gradients(theta)[examples].mean(0)


PLAIN = sde.StateChain(lambda p: p.start, minibatch_step, lambda theta: theta, name="plain")


def test_a_plain_function_is_the_chain_of_the_package():
    for size in (1, 2):
        how = {"eta": 1 / 8, "batch_size": size}
        mine, theirs = (
            sde.exact_expectation("student_teacher", chain, "cos3x", **how)
            for chain in (PLAIN, "pgpo_minibatch")
        )
        assert abs(mine - theirs) < 1e-14
    how = {"eta": 1 / 4, "paths": 5, "key": KEY}
    np.testing.assert_allclose(
        sde.run_chain("torus", PLAIN, **how),
        sde.run_chain("torus", "pgpo_minibatch", **how),
        atol=1e-14,
    )


def test_drift_and_covariance_are_derived_from_the_step():
    problem = sde.PROBLEMS["torus"]
    setting = sde.Setting(problem, 0.1, 2)
    at = problem.start
    of = jax.jit(
        lambda chain, z: (chain.drift(setting, z), chain.covariance(setting, z)), static_argnums=0
    )
    for mine, known in zip(of(PLAIN, at), of(sde.CHAINS["pgpo_minibatch"], at), strict=True):
        np.testing.assert_allclose(mine, known, atol=1e-14)
    second_of = jax.jit(lambda chain, z: chain.second_drift(setting, z), static_argnums=0)
    assert not second_of(PLAIN, at).any()

    theta, momentum = at, jnp.asarray([0.4, -0.2])
    state = jnp.concatenate([theta, momentum])
    weights, gradients, signals = setting.enumerate(theta)
    rho = problem.multiplier(signals)
    mean = weights @ gradients
    drift = jnp.concatenate([-(weights @ rho) * momentum, RATE * (mean - momentum)])
    np.testing.assert_allclose(of(PAIR, state)[0], drift, atol=1e-14)
    # Theta moves along the new momentum, which has this minibatch's gradient: order eta^2.
    second = -RATE * (weights * rho) @ (gradients - momentum)
    np.testing.assert_allclose(second_of(PAIR, state)[:2], second, atol=1e-14)
    assert np.abs(second).max() > 0.1


def every_run(problem, chain, eta, steps):
    """theta at the end of every sequence of minibatches of one example; all are as likely."""
    ends = []
    move = jax.jit(chain.advance, static_argnums=0)
    for drawn in itertools.product(range(problem.num_examples), repeat=steps):
        state = chain.begin(problem)
        for example in drawn:
            state = move(problem, state, jnp.asarray([example]), eta)
        ends.append(chain.theta(state))
    return np.asarray(ends)


def test_monte_carlo_has_the_moments_of_all_sequences():
    problem, eta = sde.PROBLEMS["quadratic"], 1 / 3
    ends = every_run(problem, MOMENTUM, eta, 3)[:, 0]
    how = {"eta": eta, "paths": 4096, "key": KEY}
    found = sde.estimate_chain(problem, MOMENTUM, ["mean", "m2"], **how)
    exact = np.array([ends.mean(), (ends**2).mean()])
    assert np.all(np.abs(found.values - exact) < 4 * found.standard_errors)
    assert np.all(found.gain > 20)
    plain = sde.estimate_chain(problem, PLAIN, ["mean"], **how)
    assert abs(plain.values[0] - exact[0]) > 50 * plain.standard_errors[0]


def test_observables_see_theta_and_nothing_else():
    def everything(state):
        return jnp.sum(state**2)

    how = {"eta": 1 / 4, "paths": 512, "key": KEY, "control_variate": False}
    for chain in (MOMENTUM, "pgpo_ema"):
        whole, second = sde.estimate_chain("quadratic", chain, [everything, "m2"], **how).values
        assert whole == second


BAD = {
    "structure": (
        sde.StateChain(lambda p: (p.start, 0.0), lambda p, s, e, eta: s[0]),
        "must return the structure of its first state",
    ),
    "shape": (
        sde.StateChain(lambda p: (p.start, jnp.zeros(2)), lambda p, s, e, eta: (s[0], s[1][:1])),
        r"leaf 1 .* is float64\(2,\), got float64\(1,\)",
    ),
    "dtype": (
        sde.StateChain(lambda p: (p.start, jnp.zeros(2)), lambda p, s, e, eta: (s[0], s[1] > 0)),
        r"got bool\(2,\)",
    ),
    "arithmetic": (
        sde.StateChain(lambda p: (p.start, p.start), lambda p, s, e, eta: s, lambda s: s[0] + s[1]),
        "entries of the state, each once, without arithmetic",
    ),
    "absolute": (
        sde.StateChain(lambda p: (p.start, 0), lambda p, s, e, eta: s, lambda s: jnp.abs(s[0])),
        "entries of the state, each once, without arithmetic",
    ),
    "names": (
        sde.StateChain(lambda p: {"theta": p.start}, lambda p, s, e, eta: s),
        "theta must be read from a state of own chain by `theta=`.* fails with KeyError: 0",
    ),
    "nothing": (
        sde.StateChain(lambda p: (), lambda p, s, e, eta: s),
        r"must hold at least one array, got \(\)",
    ),
    "theta": (
        sde.StateChain(lambda p: p.start, lambda p, s, e, eta: s),
        r"must have the shape \(1,\), got \(\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_chains_that_are_refused(name):
    chain, message = BAD[name]
    with pytest.raises(PGPOValueError, match=message):
        sde.run_chain("quadratic", chain, eta=1 / 2, paths=2, key=KEY)


def test_a_state_that_is_a_text_is_refused():
    chain = sde.StateChain(lambda p: (p.start, "fast"), lambda p, s, e, eta: s, name="texts")
    with pytest.raises(PGPOTypeError, match=r"texts must be a pytree of real numbers, .* a str"):
        sde.run_chain("quadratic", chain, eta=1 / 2, paths=2, key=KEY)


def test_a_state_that_is_no_number_is_refused():
    chain = sde.StateChain(lambda p: (p.start, 1j), lambda p, s, e, eta: s, name="complex")
    with pytest.raises(PGPOTypeError, match="complex must be a pytree of real numbers"):
        sde.run_chain("quadratic", chain, eta=1 / 2, paths=2, key=KEY)


def test_an_equation_needs_a_step_that_vanishes_with_eta():
    for equation in ("corrected", "ode", "second_order"):
        with pytest.raises(PGPOValueError, match=r"momentum must leave its state alone .* by 1:"):
            sde.Comparison("quadratic", MOMENTUM, equation)
    singular = sde.StateChain(
        lambda p: p.start, lambda p, s, e, eta: s - jnp.sqrt(eta) * s, lambda s: s, name="root"
    )
    with pytest.raises(PGPOValueError, match="root has no step that can be expanded in eta"):
        sde.ode_floor("quadratic", singular, "eq7", "mean")
    # Told whose limit to take, it has an equation.
    told = dataclasses.replace(MOMENTUM, limit=sde.CHAINS["pgpo_minibatch"])
    assert sde.ode_floor("quadratic", told, "corrected", "mean") == 0.0
