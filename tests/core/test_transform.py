"""What scale_by_information does to an update, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgpo_jax as pgpo

PARAMS = {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
GRADS = {"w": jnp.array([0.3, 0.1]), "b": jnp.array([-0.2])}
BAD = [float("nan"), float("inf"), float("-inf")]


def run(tx, signals, grads=GRADS):
    """All multipliers (from the updates themselves) and the last state."""
    step = jax.jit(lambda state, i: tx.update(grads, state, PARAMS, information=i))
    state, rhos = tx.init(PARAMS), []
    for signal in signals:
        updates, state = step(state, jnp.float32(signal))
        ratios = [u / g for u, g in zip(*map(jax.tree.leaves, (updates, grads)), strict=True)]
        rhos.append(float(ratios[0][0]))
        for ratio in ratios:
            np.testing.assert_allclose(ratio, rhos[-1], rtol=1e-6)
        np.testing.assert_allclose(state.rho, rhos[-1], rtol=1e-6)
    return rhos, state


def test_each_update_is_stretched_by_its_own_signal():
    rhos, state = run(pgpo.scale_by_information(0.5, 2.0), [0.0, 0.4, -0.4, 9.0])
    np.testing.assert_allclose(rhos, [1.0, np.exp(0.2), np.exp(-0.2), 2.0], rtol=1e-6)
    assert (int(state.count), int(state.clipped_count), int(state.nonfinite_count)) == (4, 1, 0)
    assert state.information == 9


def test_floor():
    rhos, _ = run(pgpo.scale_by_information(1.0, 2.0, rho_min=1.0), [-3.0, 0.2])
    np.testing.assert_allclose(rhos, [1.0, np.exp(0.2)], rtol=1e-6)


def test_schedule_is_read_at_the_count():
    rhos, _ = run(
        pgpo.scale_by_information(lambda count: 0.1 * count.astype(jnp.float32)), [1.0] * 3
    )
    np.testing.assert_allclose(rhos, np.exp([0.0, 0.1, 0.2]), rtol=1e-6)


def test_decay_is_a_bias_corrected_mean():
    signals, d = [0.3, -0.1, 0.2], 0.9
    rhos, _ = run(pgpo.scale_by_information(decay=d), signals)
    for k in range(3):
        weights = d ** np.arange(k, -1, -1)
        mean = np.dot(weights, signals[: k + 1]) / weights.sum()
        np.testing.assert_allclose(rhos[k], np.exp(mean), rtol=1e-5)


def test_delay_uses_the_signal_before():
    rhos, _ = run(pgpo.scale_by_information(delay=1), [0.3, -0.1, 0.2])
    np.testing.assert_allclose(rhos, np.exp([0.0, 0.3, -0.1]), rtol=1e-6)


def test_delay_uses_the_mean_before():
    """Divided by the weight that it had then."""
    rhos, _ = run(pgpo.scale_by_information(decay=0.5, delay=1), [0.4, -0.2, 0.1])
    np.testing.assert_allclose(rhos, np.exp([0.0, 0.4, (0.5 * 0.4 - 0.2) / 1.5]), rtol=1e-6)


def test_delay_makes_the_step_independent_of_this_batch():
    """What the delay is for; without it (negative control) the same change is seen."""
    for delay, unchanged in ((1, True), (0, False)):
        tx = pgpo.scale_by_information(delay=delay)
        a, _ = run(tx, [0.3, -0.1])
        b, _ = run(tx, [0.3, 0.6])
        assert (a[1] == b[1]) is unchanged


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("options", [{}, {"decay": 0.9}, {"delay": 1}, {"decay": 0.9, "delay": 1}])
def test_a_signal_that_is_not_finite(bad, options):
    """rho = 1, counted, forgotten: what follows is as if that update had not been."""
    tx = pgpo.scale_by_information(**options)
    with_bad, state = run(tx, [0.3, 0.1, bad, -0.2, 0.4])
    without, clean = run(tx, [0.3, 0.1, -0.2, 0.4])
    assert with_bad[2] == 1
    np.testing.assert_array_equal(with_bad[:2] + with_bad[3:], without)
    assert int(state.nonfinite_count) == 1
    assert int(clean.nonfinite_count) == 0
    np.testing.assert_array_equal(state.average, clean.average)


def test_an_update_that_is_left_as_it_was_is_not_counted_as_cut():
    """The mean is above the cap all the while, but the second multiplier is 1."""
    for bad in BAD:
        rhos, state = run(pgpo.scale_by_information(decay=0.5), [9.0, bad, 9.0])
        assert rhos == [2.0, 1.0, 2.0]
        assert (int(state.clipped_count), int(state.nonfinite_count)) == (2, 1)


def test_a_first_signal_that_is_not_finite():
    for options in ({}, {"decay": 0.5}, {"delay": 1}):
        rhos, _ = run(pgpo.scale_by_information(**options), [float("nan"), 0.2, 0.2])
        assert rhos[0] == 1
        np.testing.assert_allclose(rhos[2], np.exp(0.2), rtol=1e-6)


@pytest.mark.parametrize("signal", [1e30, -1e30, 3e38, -3e38])
@pytest.mark.parametrize("options", [{}, {"decay": 0.9}, {"delay": 1}, {"decay": 0.9, "delay": 1}])
def test_a_signal_beyond_the_bound(signal, options):
    """rho = 1, counted, and what follows is as if that update had not been."""
    rhos, state = run(pgpo.scale_by_information(**options), [0.1, 0.2, signal, 0.3, -0.1])
    without, clean = run(pgpo.scale_by_information(**options), [0.1, 0.2, 0.3, -0.1])
    assert rhos[2] == 1
    assert rhos[:2] + rhos[3:] == without
    assert int(state.nonfinite_count) == 1
    assert (state.average, state.weight) == (clean.average, clean.weight)
    # Negative control: where every finite signal is believed, the next multiplier is another one.
    if options:
        believing = pgpo.scale_by_information(**options, signal_bound=float("inf"))
        believed, state = run(believing, [0.1, 0.2, signal, 0.3, -0.1])
        assert believed[3] in (0.0, 2.0)
        assert int(state.nonfinite_count) == 0


def test_signals_up_to_the_bound_are_believed():
    assert run(pgpo.scale_by_information(1e-6, 9.0), [1e6])[1].nonfinite_count == 0
    rhos, state = run(pgpo.scale_by_information(signal_bound=0.5), [0.5, -0.5, 0.51, -0.51])
    assert rhos[2:] == [1.0, 1.0]
    assert int(state.nonfinite_count) == 2
    with pytest.raises(ValueError, match=r"signal_bound must be a number > 0, got 0"):
        pgpo.scale_by_information(signal_bound=0)


def test_the_bound_is_no_part_of_a_state():
    """A state that was saved before there was a bound has the same arrays."""
    injected = optax.inject_hyperparams(pgpo.scale_by_information)(alpha=0.5)
    assert set(injected.init(PARAMS).hyperparams) == {
        "alpha",
        "rho_max",
        "rho_min",
        "decay",
        "delay",
    }
    assert len(pgpo.ScaleByInformationState._fields) == 7


def test_an_overflowing_multiplier_counts_as_not_finite():
    """Without a cap exp may overflow: rho = 1 rather than an infinite step."""
    rhos, state = run(pgpo.scale_by_information(1.0, float("inf")), [1e3, 3.0])
    np.testing.assert_allclose(rhos, [1.0, np.exp(3.0)], rtol=1e-6)
    assert int(state.nonfinite_count) == 1


def test_missing_signal_is_named():
    tx = pgpo.pgpo(optax.sgd(0.1))
    for kw in ({}, {"information": None}):
        with pytest.raises(TypeError, match=r"`information`.*pgpo_jax\.information"):
            tx.update(GRADS, tx.init(PARAMS), PARAMS, **kw)


def test_signal_must_be_one_real_number():
    tx = pgpo.scale_by_information()
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match=r"one scalar.*\(3,\)"):
        tx.update(GRADS, state, information=jnp.zeros(3))
    with pytest.raises(TypeError, match="real number"):
        tx.update(GRADS, state, information=1j)
    with pytest.raises(TypeError):
        tx.update(GRADS, state, information="0.3")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "complex64"])
def test_dtype_of_updates_is_kept(dtype):
    grads = {"x": jnp.ones(3, dtype), "none": None}
    tx = pgpo.scale_by_information()
    updates, _ = tx.update(grads, tx.init(grads), information=0.3)
    assert updates["x"].dtype == dtype
    assert updates["none"] is None


def test_rho_is_not_rounded_before_the_product():
    """In bfloat16 rho = 1.003 would be 1: the product is taken in float32 and rounded once."""
    update = jnp.asarray(1.2421875, jnp.bfloat16)
    tx = pgpo.scale_by_information()
    got, state = tx.update(update, tx.init(update), information=0.0035)
    assert got == (update.astype(jnp.float32) * state.rho).astype(jnp.bfloat16)
    assert got != update
    assert update * state.rho.astype(jnp.bfloat16) == update  # negative control


def test_state_types_are_fixed_whatever_the_signal():
    """No recompilation of anything that takes the state, after any kind of signal."""
    tx = pgpo.pgpo(optax.sgd(0.1), decay=0.5)
    state = tx.init(PARAMS)
    types = jax.tree.map(jax.typeof, state)
    compiled = jax.jit(lambda state, i: tx.update(GRADS, state, PARAMS, information=i))
    consumer = jax.jit(lambda updates, state: (updates, state))
    kinds = [0.1, 1, np.float64(0.1), np.float32(0.1), jnp.bfloat16(0.1), jnp.float32(0.1)]
    for signal in kinds:
        updates, state = tx.update(GRADS, state, PARAMS, information=signal)
        assert jax.tree.map(jax.typeof, state) == types
        assert not any(x.weak_type for x in jax.tree.leaves((updates, state)))
        consumer(updates, state)
        _, state = compiled(state, jnp.float32(signal))
    assert consumer._cache_size() == 1
    assert compiled._cache_size() == 1


def test_state_types_under_x64(x64):
    tx = pgpo.scale_by_information(optax.linear_schedule(0.0, 1.0, 10), decay=0.5, delay=1)
    params = jnp.ones(2)
    state = tx.init(params)
    types = jax.tree.map(jax.typeof, state)
    updates, state = jax.jit(lambda s, i: tx.update(params, s, information=i))(state, 0.1)
    assert updates.dtype == jnp.float64
    assert jax.tree.map(jax.typeof, state) == types


def test_decoupled_weight_decay_inside_and_outside(lenient):
    """Last in the chain rho scales the decay too; before `add_decayed_weights` it does not."""
    lr, wd = 0.1, 0.5
    adam, decay = optax.scale_by_adam(), optax.add_decayed_weights(wd)
    inside = pgpo.pgpo(optax.adamw(lr, weight_decay=wd))
    outside = optax.chain(
        adam, pgpo.scale_by_information(), decay, optax.scale_by_learning_rate(lr)
    )
    direction, _ = adam.update(GRADS, adam.init(PARAMS))
    rho = np.exp(0.3)
    for tx, want in (
        (inside, lambda h, p: -lr * rho * (h + wd * p)),
        (outside, lambda h, p: -lr * (rho * h + wd * p)),
    ):
        got, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, information=0.3)
        jax.tree.map(
            lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5),
            got,
            jax.tree.map(want, direction, PARAMS),
        )


def test_before_adam_the_multiplier_is_lost(lenient):
    """Adam divides by the size of its gradients: a constant rho before it does nothing."""
    constant = 0.5
    before = optax.chain(pgpo.scale_by_information(), optax.adam(0.1, eps=0.0))
    plain, after = optax.adam(0.1, eps=0.0), pgpo.pgpo(optax.adam(0.1, eps=0.0))
    states = [tx.init(PARAMS) for tx in (plain, before, after)]
    for _ in range(3):
        want, states[0] = plain.update(GRADS, states[0], PARAMS)
        lost, states[1] = before.update(GRADS, states[1], PARAMS, information=constant)
        kept, states[2] = after.update(GRADS, states[2], PARAMS, information=constant)
    np.testing.assert_allclose(lost["w"], want["w"], rtol=1e-5)
    np.testing.assert_allclose(kept["w"], np.exp(constant) * want["w"], rtol=1e-5)


def test_moments_never_see_the_multiplier(lenient):
    tx, adam = pgpo.pgpo(optax.adam(0.1)), optax.adam(0.1)
    state, want = tx.init(PARAMS), adam.init(PARAMS)
    for signal in (0.3, -0.5, 2.0):
        _, state = tx.update(GRADS, state, PARAMS, information=signal)
        _, want = adam.update(GRADS, want, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, state[0], want)
