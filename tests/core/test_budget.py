"""The information budget: how long a step is, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgpo_jax as pgpo

PARAMS = jnp.array([1.0, -2.0])
NAN = float("nan")


def half_square(updates):
    """KL of a Gaussian policy of variance 1 whose mean moves by the updates."""
    return 0.5 * jnp.sum(updates**2)


def scaled(signals, budget=0.1, movement=half_square, **options):
    """The updates of `optax.sgd(1.0)` for a gradient of ones, and the last state."""
    tx = optax.chain(optax.sgd(1.0), pgpo.scale_by_information_budget(budget, **options))
    state, found = tx.init(PARAMS), []
    for signal in signals:
        updates, state = tx.update(
            jnp.ones(2), state, PARAMS, information=signal, movement=movement
        )
        found.append(updates)
    return found, state[-1]


def test_a_step_moves_the_policy_by_no_more_than_its_information_pays_for():
    signals = [100.0, 10.0, 2.5, 0.4, 0.0, -3.0]
    found, state = scaled(signals)
    moved = [float(half_square(update)) for update in found]
    # The full step moves it by 1 nat.
    np.testing.assert_allclose(moved, [1.0, 1.0, 0.25, 0.04, 0.0, 0.0], rtol=1e-6)
    assert int(state.inner.clipped_count) == 2
    assert float(state.movement) == 1.0
    # Negative control: ten times the budget does not bind at 2.5 nats.
    assert float(half_square(scaled([2.5], 1.0)[0][0])) == 1.0


def test_a_least_multiplier():
    found, state = scaled([-1.0], rho_min=0.25)
    np.testing.assert_allclose(found[0], -0.25)
    assert float(state.inner.rho) == 0.25


def test_a_step_that_moves_nothing_is_whole():
    for movement in (lambda updates: 0.0, lambda updates: -1e-9):
        assert float(scaled([0.0], movement=movement)[1].inner.rho) == 1.0


@pytest.mark.parametrize(("signal", "movement"), [(NAN, 1.0), (1.0, NAN), (1.0, float("inf"))])
def test_what_is_not_finite_takes_no_step(signal, movement):
    found, state = scaled([signal], movement=lambda updates: movement)
    assert not np.any(np.asarray(found[0]))
    assert int(state.inner.nonfinite_count) == 1
    assert int(scaled([1.0])[1].inner.nonfinite_count) == 0


def test_under_jit_it_compiles_once():
    tx = pgpo.scale_by_information_budget(0.1)

    traces = []

    @jax.jit
    def step(state, signal):
        traces.append(1)
        return tx.update(PARAMS, state, PARAMS, information=signal, movement=half_square)

    state = tx.init(PARAMS)
    for signal in (0.1, -2.0, 50.0):
        _, state = step(state, jnp.float32(signal))
    assert len(traces) == 1
    assert float(state.inner.rho) == 1.0


@pytest.mark.parametrize("budget", [0.0, -1.0, NAN, float("inf")])
def test_bad_budgets(budget):
    with pytest.raises(ValueError, match="budget must be a finite number > 0, got"):
        pgpo.scale_by_information_budget(budget)


def test_bad_calls():
    with pytest.raises(ValueError, match=r"rho_min must be a number in \[0, 1\], got 2"):
        pgpo.scale_by_information_budget(0.1, rho_min=2)
    with pytest.raises(TypeError, match="budget must not be a number of 16 bits"):
        pgpo.scale_by_information_budget(jnp.bfloat16(0.1))
    tx = pgpo.scale_by_information_budget(0.1)
    with pytest.raises(TypeError, match="needs the keyword argument `movement`"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, information=0.1)
    with pytest.raises(ValueError, match=r"`movement` must return one scalar .* got shape \(2,\)"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, information=0.1, movement=lambda u: u**2)
    with pytest.raises(TypeError, match="needs the keyword argument `information`"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, movement=half_square)
