"""The shift of the belief in an answer, and the selection by it."""

import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax.information import belief_shift, js_gain, largest_share


def test_the_shift_is_that_of_another_program(x64):
    without = jnp.array([1.0, 0.0, -1.0, 0.5])
    within = jnp.array([0.5, 1.0, -0.5, 0.0])
    shift = belief_shift(without, within)
    np.testing.assert_allclose(shift, 0.055791038, atol=1e-9)
    # It is symmetric, bounded, and 0 where nothing moves. The control: another belief.
    np.testing.assert_allclose(belief_shift(within, without), shift, atol=1e-12)
    assert abs(float(belief_shift(without, without))) < 1e-15
    apart = belief_shift(jnp.array([0.0, -jnp.inf]), jnp.array([-jnp.inf, 0.0]))
    np.testing.assert_allclose(apart, np.log(2), atol=1e-12)
    assert abs(float(belief_shift(without, 2 * within)) - float(shift)) > 1e-3
    # Of one token it is the estimator js.
    token = js_gain(without[None, None], within[None, None], jnp.ones((1, 1)))
    np.testing.assert_allclose(token, shift, atol=1e-12)


def test_the_largest_share_is_chosen():
    scores = jnp.array([0.3, jnp.nan, 0.1, 0.3, 0.2])
    assert largest_share(scores, 0.2).tolist() == [True, False, False, False, False]
    # .07 * 100 is a little over 7 in floating point.
    assert int(largest_share(jnp.arange(100.0), 0.07).sum()) == 7
    assert largest_share(scores, 0.4).tolist() == [True, False, False, True, False]
    assert largest_share(scores, 1.0).tolist() == [True, False, True, True, True]
    # Rounded up to whole questions.
    assert int(largest_share(scores, 0.01).sum()) == 1
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"share must be a number in \(0, 1\]"):
            largest_share(scores, share)
