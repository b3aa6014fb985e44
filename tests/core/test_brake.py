"""The brake: a multiplier of at most 1, and what is passed on to the transform."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgpo_jax as pgpo

PARAMS = jnp.array([1.0, -2.0])


def multipliers(tx, signals):
    """By how much each update of `optax.sgd(1.0)` is shortened."""
    state, found = tx.init(PARAMS), []
    for signal in signals:
        updates, state = tx.update(jnp.ones(2), state, PARAMS, information=signal)
        found.append(-float(updates[0]))
    return found, state[-1]


def test_no_step_is_longer_than_the_optimizers():
    signals = [5.0, 0.1, 0.0, -np.log(2) / 30, -1.0]
    found, state = multipliers(pgpo.brake(optax.sgd(1.0)), signals)
    np.testing.assert_allclose(found, [1, 1, 1, 0.5, np.exp(-30)], rtol=1e-5)
    assert found[:3] == [1.0] * 3
    assert int(state.clipped_count) == 2
    # Negative control: the published reading lengthens them.
    published, _ = multipliers(pgpo.pgpo(optax.sgd(1.0), 30.0), signals)
    assert published[0] == 2.0


def test_it_is_pgpo_with_a_cap_of_one():
    signals = [0.05, -0.02, float("nan"), 0.01, -0.1]
    for options in ({}, {"decay": 0.8}, {"delay": 1}, {"rho_min": 0.5}, {"signal_bound": 0.04}):
        found, state = multipliers(pgpo.brake(optax.sgd(1.0), 10.0, **options), signals)
        plain, other = multipliers(pgpo.pgpo(optax.sgd(1.0), 10.0, 1.0, **options), signals)
        assert found == plain
        assert jax.tree.map(str, state) == jax.tree.map(str, other)
        without, _ = multipliers(pgpo.brake(optax.sgd(1.0), 10.0), signals)
        assert (found == without) is (not options)


def test_a_schedule_of_alpha():
    rising = pgpo.brake(optax.sgd(1.0), lambda count: 10.0 * count.astype(jnp.float32))
    found, _ = multipliers(rising, [-0.1] * 3)
    np.testing.assert_allclose(found, np.exp([0.0, -1.0, -2.0]), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"alpha": -1.0}, "alpha must be a finite number >= 0, got -1.0"),
        ({"rho_min": 1.5}, r"rho_min must be a number in \[0, 1\], got 1.5"),
        ({"decay": 1.0}, r"decay must be a number in \[0, 1\), got 1.0"),
    ],
)
def test_bad_values(changes, rule):
    with pytest.raises(ValueError, match=rule):
        pgpo.brake(optax.sgd(1.0), **changes)


def test_it_needs_the_information():
    tx = pgpo.brake(optax.sgd(1.0))
    with pytest.raises(TypeError, match="needs the keyword argument `information`"):
        tx.update(jnp.ones(2), tx.init(PARAMS), PARAMS)
