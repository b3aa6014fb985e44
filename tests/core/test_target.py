"""The adaptive alpha: the mean multiplier at its target, and what it does when it cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgpo_jax as pgpo

UPDATE = jnp.array([0.3, -0.1])


def run(signals, *args, **kw):
    """All multipliers and alphas (as used), and the last state."""
    tx = pgpo.scale_by_information_to_target(*args, **kw)

    def body(state, signal):
        updates, after = tx.update(UPDATE, state, information=signal)
        return after, (updates[0] / UPDATE[0], state.alpha)

    state, (rhos, alphas) = jax.jit(lambda x: jax.lax.scan(body, tx.init(UPDATE), x))(
        jnp.asarray(signals, jnp.float32)
    )
    np.testing.assert_allclose(state.inner.rho, rhos[-1], rtol=1e-6)
    return np.array(rhos), np.array(alphas), state


def test_first_steps_by_hand():
    rhos, alphas, state = run([0.1, -0.05], 1.25, alpha=2.0, gain=0.5)
    first = np.exp(0.2)
    second = 2.0 * np.exp(0.5 * (1 - first / 1.25))
    np.testing.assert_allclose(alphas, [2.0, second], rtol=1e-6)
    np.testing.assert_allclose(rhos, [first, np.exp(-0.05 * second)], rtol=1e-6)
    last = second * np.exp(0.5 * (1 - rhos[1] / 1.25))
    np.testing.assert_allclose(state.alpha, last, rtol=1e-6)


@pytest.mark.parametrize("target", [1.2, 1.6])
def test_the_mean_multiplier_holds_at_the_target(target):
    """With a noisy signal that falls to a third of its size, as it does in training."""
    rng = np.random.default_rng(0)
    size = np.linspace(0.06, 0.02, 600)
    signals = size * (1 + 0.5 * rng.normal(size=600))
    rhos, alphas, _ = run(signals, target, 3.0)
    np.testing.assert_allclose(rhos[50:].mean(), target, rtol=0.02)
    assert alphas[-100:].mean() > 2 * alphas[50:100].mean()
    # Negative control: with alpha as it began the mean is elsewhere.
    fixed = pgpo.multiplier(jnp.asarray(signals[50:]), 1.0, 3.0).mean()
    assert abs(float(fixed) - target) > 0.1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e30, -1e30])
@pytest.mark.parametrize("options", [{}, {"decay": 0.9}, {"delay": 1}])
def test_a_signal_that_is_not_believed(bad, options):
    """rho = 1, counted, and what follows is as if that update had not been."""
    rhos, alphas, state = run([0.3, 0.1, bad, -0.2, 0.4], **options)
    without, clean, _ = run([0.3, 0.1, -0.2, 0.4], **options)
    assert rhos[2] == 1
    np.testing.assert_array_equal(np.delete(rhos, 2), without)
    np.testing.assert_array_equal(np.delete(alphas, 2), clean)
    assert int(state.inner.nonfinite_count) == 1


@pytest.mark.parametrize("huge", [1e30, -1e30])
def test_without_a_bound_one_signal_decides_all_that_follows(huge):
    """Negative control of the test above: here alpha is driven, or held, by one wrong number."""
    signals = [0.3, 0.1, huge, *[0.2] * 20]
    _, driven, _ = run(signals, signal_bound=float("inf"), decay=0.9)
    _, alphas, _ = run(signals, decay=0.9)
    assert abs(driven[-1] - alphas[-1]) > 0.5


def test_alpha_is_held_while_the_signal_is_negative_on_average():
    rng = np.random.default_rng(1)
    signals = -0.03 + 0.01 * rng.normal(size=100)
    _, alphas, state = run(signals)
    np.testing.assert_array_equal(alphas, 1.0)
    assert state.mean_information < 0
    assert run(-signals)[1][-1] > 10  # negative control


def test_alpha_is_bounded_when_there_is_next_to_no_signal():
    _, alphas, _ = run([1e-9] * 60, alpha_max=40.0)
    assert alphas[-1] == 40
    assert run([1e-9] * 60)[1][-1] > 40


def test_refusals():
    for kw, rule in (
        ({"target": 1.0}, "target must be a number above 1 and below rho_max, got 1.0"),
        ({"target": 2.0}, "target must be .* got 2.0"),
        ({"alpha": 0.0}, "alpha must be a finite number > 0"),
        ({"gain": 0.0}, "gain must be a finite number > 0"),
        ({"alpha_max": float("inf")}, "alpha_max must be a finite number"),
        ({"alpha": 50.0, "alpha_max": 10.0}, "alpha must be at most alpha_max = 10.0, got 50.0"),
        ({"rho_max": 0.5}, "rho_max must be"),
        ({"decay": 1.0}, "decay must be"),
    ):
        with pytest.raises(ValueError, match=rule):
            pgpo.scale_by_information_to_target(**kw)
    # Bounds may be arrays, also where types are not mixed.
    pgpo.scale_by_information_to_target(jnp.float32(1.5), jnp.float32(3), alpha_max=jnp.float32(9))
    tx = pgpo.scale_by_information_to_target()
    with pytest.raises(TypeError, match="`information`"):
        tx.update(UPDATE, tx.init(UPDATE))
