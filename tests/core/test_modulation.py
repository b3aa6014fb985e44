"""Weights of the loss by information, and the signal that asks the grader."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax import information
from pgpo_jax.distillation import modulation_weights

GAIN = jnp.array([[0.1, -0.2, 0.9], [0.3, jnp.nan, jnp.nan], [jnp.nan] * 3])
MASK = jnp.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]])


def test_weights_by_hand():
    by_token = modulation_weights(GAIN, MASK, alpha=2.0, rho_max=3.0, rho_min=0.8)
    want = [[np.exp(0.2), 0.8, 3.0], [np.exp(0.6), 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(by_token, want, rtol=1e-6)
    by_sequence = modulation_weights(GAIN, MASK, level="sequence", alpha=2.0, rho_max=3.0)
    want = [[np.exp(2 * 0.8 / 3)] * 3, [np.exp(0.6), 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(by_sequence, want, rtol=1e-6)
    np.testing.assert_array_equal(modulation_weights(GAIN, MASK, level="none"), MASK)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_weights_carry_no_gradient_and_alpha_zero_gives_ones(level):
    f = lambda g: modulation_weights(g, MASK, level=level).sum()  # noqa: E731
    assert not jax.grad(f)(GAIN).any()
    ones = modulation_weights(GAIN, MASK, level=level, alpha=0.0)
    np.testing.assert_array_equal(ones, MASK)


def test_weights_of_half_precision_gains_are_float32():
    """In bfloat16 the 1001 tokens of a sequence would be counted as 1000, and rho rounded."""
    gain = jnp.full((1, 1001), 0.3, jnp.bfloat16)
    mask = jnp.ones((1, 1001))
    for level in ("token", "sequence"):
        weights = modulation_weights(gain, mask, level=level)
        assert weights.dtype == jnp.float32
        np.testing.assert_allclose(weights, np.exp(np.float32(gain[0, 0])), rtol=1e-6)
    assert modulation_weights(gain, mask, level="none").dtype == jnp.float32
    assert jnp.bfloat16(1001) == 1000  # negative control


def test_outcome_gain_by_hand():
    """Two sequences of two tokens and one; a misled teacher turns the sign."""
    student = jnp.log(jnp.array([[0.5, 0.25], [0.5, jnp.nan]]))
    teacher = jnp.log(jnp.array([[0.75, 0.5], [0.25, jnp.nan]]))
    mask = jnp.array([[1, 1], [1, 0]])
    right = (np.log(1.5) + np.log(2.0)) / 2
    wrong = np.log(2.0)
    gain = lambda *success, **kw: float(  # noqa: E731
        information.outcome_gain(student, teacher, jnp.array(success), mask, **kw)
    )
    np.testing.assert_allclose(gain(1, 0), (right + wrong) / 2, rtol=1e-6)
    np.testing.assert_allclose(gain(0, 1), -(right + wrong) / 2, rtol=1e-6)
    np.testing.assert_allclose(gain(1, 1), (right - wrong) / 2, rtol=1e-6)
    total = np.log(1.5) + np.log(2.0) + wrong
    np.testing.assert_allclose(gain(1, 0, reduction="token_mean"), total / 3, rtol=1e-6)
    np.testing.assert_allclose(gain(1, 0, reduction="sequence_sum"), total / 2, rtol=1e-6)
    only = gain(1, 0, sequence_mask=jnp.array([0, 1]))
    np.testing.assert_allclose(only, wrong, rtol=1e-6)


def test_outcome_gain_tells_a_misled_teacher_from_a_right_one_and_confidence_does_not():
    """Four words, the first is right. Both teachers are equally sure, one of the wrong word."""
    student = jnp.log(jnp.full((2, 1, 4), 0.25))
    sampled = jnp.array([[0], [1]])
    success, mask = jnp.array([1, 0]), jnp.ones((2, 1))

    def signals(favourite):
        q = jnp.full((4,), 0.02).at[favourite].set(0.94)
        teacher = jnp.log(jnp.broadcast_to(q, (2, 1, 4)))
        pick = lambda z: jnp.take_along_axis(z, sampled[..., None], -1)[..., 0]  # noqa: E731
        sure = information.entropy_gain(student, teacher, mask)
        agrees = information.outcome_gain(pick(student), pick(teacher), success, mask)
        return float(sure), float(agrees)

    (sure, good), (misled_sure, bad) = signals(0), signals(1)
    np.testing.assert_allclose(sure, misled_sure, rtol=1e-6)
    assert good > 1
    assert bad < -1


def test_what_outcome_gain_cannot_see(x64):
    """Among failures alone a teacher that is only different scores KL(p || q) > 0."""
    p, q = np.random.default_rng(0).dirichlet(np.ones(5), 2)
    gains = [
        information.outcome_gain(
            *jnp.log(jnp.array([[[a]], [[b]]])), jnp.zeros(1), jnp.ones((1, 1))
        )
        for a, b in zip(p, q, strict=True)
    ]
    np.testing.assert_allclose(p @ np.array(gains), (p * np.log(p / q)).sum(), rtol=1e-12)


RATIO = jnp.array([[0.4, 0.2, 9.0], [-0.1, 9.0, 9.0], [0.5, 0.1, 0.3], [9.0, 9.0, 9.0]])
RATIO_MASK = jnp.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]])
GRADED = jnp.array([1, 1, 0, 0])


def graded(f, ratio=RATIO, success=GRADED, mask=RATIO_MASK, sequences=None, **kw):
    return float(f(jnp.zeros_like(ratio), ratio, success, mask, sequences, **kw))


@pytest.mark.parametrize(
    ("reduction", "want", "without_second"),
    [
        ("sequence_mean", (0.3 - 0.1) / 2 - 0.3, 0.0),
        ("token_mean", 0.5 / 3 - 0.3, 0.0),
        ("sequence_sum", 0.25 - 0.9, 0.6 - 0.9),
    ],
)
def test_outcome_contrast_by_hand(reduction, want, without_second):
    got = graded(information.outcome_contrast, reduction=reduction)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    sequences = jnp.array([1, 0, 1, 1])
    got = graded(information.outcome_contrast, sequences=sequences, reduction=reduction)
    np.testing.assert_allclose(got, without_second, rtol=1e-6, atol=1e-7)


def test_outcome_contrast_does_not_see_a_common_shift_and_outcome_gain_does():
    shifted = {f: graded(f, RATIO - 2.0) - graded(f) for f in
               (information.outcome_contrast, information.outcome_gain)}  # fmt: skip
    np.testing.assert_allclose(shifted[information.outcome_contrast], 0.0, atol=1e-6)
    # Two right and one wrong of the three that have a token.
    np.testing.assert_allclose(shifted[information.outcome_gain], -2.0 / 3, rtol=1e-5)


@pytest.mark.parametrize("success", [[1, 1, 1, 0], [0, 0, 0, 1]])
def test_outcome_contrast_of_one_class_is_zero(success):
    """The last sequence has no token, so it is no second class."""
    assert graded(information.outcome_contrast, success=jnp.array(success)) == 0.0
