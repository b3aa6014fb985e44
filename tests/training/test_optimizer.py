"""The optimizer of a configuration: rates over the steps, plateaus, the multiplier at its end."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pgpo_jax.training import PRESETS
from tests.training.conftest import replaced

RATE = 0.1


def steps(losses, signal=0.0, **changes):
    """Sizes of the updates under a constant gradient, for which Adam's direction is 1."""
    config = replaced(
        PRESETS["tiny"],
        steps=10,
        optimizer={
            "learning_rate": RATE,
            "warmup_steps": 2,
            "weight_decay": 0.0,
            **changes.pop("optimizer", {}),
        },
        **changes,
    )
    optimizer = config.make_optimizer()
    one = jnp.ones(1)

    def body(state, loss):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(
                one, state, one, information=jnp.float32(signal), value=loss
            )
        return state, -updates[0]

    run = jax.jit(lambda losses: jax.lax.scan(body, optimizer.init(one), losses))
    state, sizes = run(jnp.asarray(losses, jnp.float32))
    return np.array(sizes), state


def test_the_learning_rate_rises_and_stays_or_falls_to_zero():
    ramp = np.array([0.0, 0.5])
    sizes, _ = steps(np.ones(10))
    np.testing.assert_allclose(sizes, RATE * np.append(ramp, np.ones(8)), rtol=1e-4)
    sizes, _ = steps(np.ones(11), optimizer={"schedule": "cosine"})
    fall = 0.5 * (1 + np.cos(np.pi * np.arange(9) / 8))
    np.testing.assert_allclose(sizes, RATE * np.append(ramp, fall), rtol=1e-4, atol=1e-7)


def test_a_plateau_of_the_loss_lowers_the_rate():
    settings = {"plateau": True, "plateau_patience": 3, "warmup_steps": 0}
    falling = 1.0 / np.arange(1, 9)
    sizes, _ = steps(falling, optimizer=settings)
    np.testing.assert_allclose(sizes, RATE, rtol=1e-4)
    flat = np.where(np.arange(8) < 3, falling, 2.0)
    sizes, state = steps(flat, optimizer=settings)
    assert sizes[4] == pytest.approx(RATE, rel=1e-4)
    assert sizes[-1] == pytest.approx(RATE / 2, rel=1e-4)
    assert float(optax.tree.get(state, "scale")) == 0.5


def test_the_multiplier_comes_last_and_may_adapt():
    sizes, state = steps(
        np.ones(80), 0.03, optimizer={"warmup_steps": 0}, information={"target_rho": 1.4}
    )
    assert sizes[0] < 1.1 * RATE
    np.testing.assert_allclose(sizes[-10:], 1.4 * RATE, rtol=0.01)
    assert float(optax.tree.get(state, "alpha")) == pytest.approx(np.log(1.4) / 0.03, rel=0.02)
