"""Momentum, RMSprop and Adam with rho: their b and S, optax's own steps, floors and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgpo_jax as pgpo
import sde
from pgpo_jax.errors import PGPOValueError
from sde.problems import DoubleWell

TORUS = sde.PROBLEMS["torus"]
MOMENT = np.array([0.4, -0.2])
SECOND = np.array([0.7, 1.3])


@functools.partial(jax.jit, static_argnums=0)
def limit_of(chain, state):
    setting = sde.Setting(TORUS, 0.1, 2)
    return chain.drift(setting, state), chain.covariance(setting, state)


def drawn():
    """Probabilities, gradients and rho of all pairs of examples at the start."""
    weights, gradients, signals = sde.Setting(TORUS, 0.1, 2).enumerate(TORUS.start)
    return weights, gradients, TORUS.multiplier(signals)


def test_the_covariance_of_rho_and_gradient_enters_rmsprop_and_not_momentum_or_adam():
    weights, gradients, rho = drawn()
    theta, mean = TORUS.start, weights @ gradients
    b, _ = limit_of(sde.CHAINS["pgpo_momentum"], jnp.concatenate([theta, MOMENT]))
    np.testing.assert_allclose(b[:2], -(weights @ rho) * MOMENT, atol=1e-14)
    np.testing.assert_allclose(b[2:], 2.0 * (mean - MOMENT), atol=1e-14)

    divisor = jnp.sqrt(SECOND) + 0.1
    b, _ = limit_of(sde.CHAINS["pgpo_adam"], jnp.concatenate([theta, MOMENT, SECOND]))
    np.testing.assert_allclose(b[:2], -(weights @ rho) * MOMENT / divisor, atol=1e-14)

    b, s = limit_of(sde.CHAINS["pgpo_rmsprop"], jnp.concatenate([theta, SECOND]))
    steps = -rho[:, None] * gradients / divisor
    np.testing.assert_allclose(b[:2], weights @ steps, atol=1e-14)
    jensen = -(weights @ rho) * mean / divisor
    assert float(jnp.abs(b[:2] - jensen).max()) > 0.01
    # v follows the second moment of the minibatch's gradient, not the square of its mean.
    np.testing.assert_allclose(b[2:], weights @ gradients**2 - SECOND, atol=1e-14)
    # The noise of theta is that of rho g, and it is correlated with that of v.
    centred = [x - weights @ x for x in (steps, gradients**2)]
    cross = jnp.einsum("M,Mi,Mj->ij", weights, *centred)
    np.testing.assert_allclose(s[:2, 2:], cross, atol=1e-14)
    assert float(jnp.abs(cross).max()) > 0.01


def test_decoupled_decay_inside_and_outside_the_multiplier():
    weights, _, rho = drawn()
    state = jnp.concatenate([TORUS.start, MOMENT])
    size, plain = weights @ rho, sde.CHAINS["pgpo_momentum"]
    pull = {}
    for inside in (True, False):
        chain = sde.adaptive_chain(first=2.0, weight_decay=0.3, decay_inside=inside)
        pull[inside] = limit_of(chain, state)[0][:2] - limit_of(plain, state)[0][:2]
    np.testing.assert_allclose(pull[True], -size * 0.3 * TORUS.start, atol=1e-14)
    np.testing.assert_allclose(pull[False], -0.3 * TORUS.start, atol=1e-14)
    assert float(jnp.abs(pull[True] - pull[False]).max()) > 0.002


def test_it_is_the_rmsprop_of_optax_below_the_multiplier():
    def make(eta, **changed):
        given = {"decay": 1 - eta, "eps": 0.1, "initial_scale": 1.0, "eps_in_sqrt": False} | changed
        return pgpo.pgpo(optax.rmsprop(eta, **given), alpha=0.0)

    still = DoubleWell(alpha=0.0)
    rows = jnp.asarray(np.random.default_rng(0).integers(0, 4, (200, 1)))

    @functools.partial(jax.jit, static_argnums=0)
    def follow(chain):
        def step(state, row):
            state = chain.step(still, state, row, 0.05)
            return state, state[0]

        return jax.lax.scan(step, chain.initial_state(still), rows)[1]

    mine = follow(sde.CHAINS["pgpo_rmsprop"])
    np.testing.assert_allclose(mine, follow(sde.optax_chain(make)), rtol=0, atol=1e-12)
    other = follow(sde.optax_chain(functools.partial(make, eps_in_sqrt=True)))
    assert float(jnp.abs(mine - other).max()) > 1e-2


def square_root(signal):
    def make(**rates):
        rmsprop = optax.rmsprop(eps_in_sqrt=False, **rates)
        return pgpo.pgpo(rmsprop, alpha=0.7, rho_max=float("inf"))

    return sde.optax_chain(
        make, regime="square_root", signal=signal, decay=2.0, eps=0.5, name=signal
    )


def test_the_minibatch_signal_has_no_limit_in_the_square_root_regime():
    problem = sde.PROBLEMS["double_well"]

    @functools.partial(jax.jit, static_argnums=0)
    def speed(chain, eta):
        rows = jnp.arange(4)[:, None]
        start = chain.initial_state(problem)
        ends = jax.vmap(lambda row: chain.step(problem, start, row, eta)[0])(rows)
        return (jnp.mean(ends) - start[0]) / eta

    chains = {signal: square_root(signal) for signal in ("minibatch", "population")}
    coarse, fine = ({s: speed(c, eta) for s, c in chains.items()} for eta in (2.0**-12, 2.0**-16))
    # E[rho_B g_B] is eta^-1/2 times too large: a step 16 times shorter moves 4 times as fast.
    assert 3.8 < float(fine["minibatch"] / coarse["minibatch"]) < 4.2
    assert abs(float(fine["population"] / coarse["population"]) - 1) < 0.05
    for chain in chains.values():
        with pytest.raises(PGPOValueError, match="or another scaling"):
            sde.EQUATIONS["corrected"].check(problem, chain)


def test_reading_rho_of_the_population_leaves_a_floor():
    def floor(equation):
        return sde.ode_floor("student_teacher", "pgpo_rmsprop", equation, "mean")

    assert abs(floor("population_signal") - -0.19771) < 1e-5
    assert floor("corrected") == 0.0


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: sde.adaptive_chain(), "first or second must be a rate"),
        (lambda: sde.adaptive_chain(first=-1.0), "first must be a positive number, got -1.0"),
        (lambda: sde.adaptive_chain(second=1.0, epsilon=0.0), "epsilon must be a positive"),
        (lambda: sde.adaptive_chain(second=1.0, second_start=0.0), "second_start must be"),
        (lambda: sde.adaptive_chain(first=1.0, weight_decay=-0.1), "weight_decay must be"),
        (lambda: sde.adaptive_chain(first=1.0, signal="none"), "signal must be"),
        (
            lambda: sde.ode_floor("quadratic", "sgd", "population_signal", "mean"),
            r"is built from the same chain told I\(theta\), .* got SGD\(\)",
        ),
    ],
)
def test_what_is_refused(ask, message):
    with pytest.raises(PGPOValueError, match=message):
        ask()
