"""The policy loss by hand, and fused with the head against the plain path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax import distillation
from pgpo_jax._categorical import entropy, log_probs, token_log_probs

# ratio, advantage, loss and its derivative by log p
CASES = [
    (1.0, 2.0, -2.0, -2.0),
    (1.1, 2.0, -2.2, -2.2),
    (1.4, 2.0, -2.56, 0.0),  # raised enough: cut at 1.28
    (0.5, 2.0, -1.0, -1.0),  # a good token that has become rare is not cut
    (1.0, -2.0, 2.0, 2.0),
    (0.5, -2.0, 1.6, 0.0),  # lowered enough: cut at 0.8
    (2.0, -2.0, 4.0, 4.0),  # a bad token that has become likely is not cut,
    (3.5, -2.0, 6.0, 0.0),  # up to the dual clip
    (1.0, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("ratio", "advantage", "loss", "slope"), CASES)
def test_by_hand(ratio, advantage, loss, slope):
    old = jnp.float32(-1.3)
    f = lambda lp: distillation.policy_loss(lp, old, jnp.float32(advantage))  # noqa: E731
    value, gradient = jax.value_and_grad(f)(old + jnp.log(jnp.float32(ratio)))
    np.testing.assert_allclose(value, loss, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)


def test_clips_can_be_moved_and_removed():
    one = jnp.ones(())
    loss = lambda r, a, **kw: float(  # noqa: E731
        distillation.policy_loss(jnp.log(r * one), 0 * one, a * one, **kw)
    )
    assert loss(1.4, 1.0, clip_high=0.5) == pytest.approx(-1.4)
    assert loss(0.5, -1.0, clip_low=0.6) == pytest.approx(0.5)
    assert loss(9.0, -1.0, dual_clip=float("inf")) == pytest.approx(9.0)
    assert np.isfinite(loss(1e30, -1.0, dual_clip=float("inf")))


def test_neither_advantages_nor_the_old_policy_carry_a_gradient():
    f = lambda old, a: distillation.policy_loss(jnp.zeros(()), old, a)  # noqa: E731
    gradients = jax.grad(f, (0, 1))(jnp.float32(-0.1), jnp.float32(1.0))
    assert not any(gradients)


def test_refusals():
    zero = jnp.zeros(1)
    for kw, rule in (
        ({"clip_low": 1.0}, "clip_low must be"),
        ({"clip_high": -0.1}, "clip_high must be"),
        ({"dual_clip": 1.0}, "dual_clip must be a number > 1"),
    ):
        with pytest.raises(ValueError, match=rule):
            distillation.policy_loss(zero, zero, zero, **kw)


@pytest.mark.parametrize(
    ("kw", "rule"),
    [
        ({"chunk_size": 0}, "chunk_size must be at least 1 token, got 0"),
        ({"temperature": 0}, "temperature must be a finite number > 0, got 0"),
        ({"temperature": -1.0}, "temperature must be a finite number > 0, got -1.0"),
        ({"clip_low": 1.0}, "clip_low must be"),
        ({"reduction": "mean"}, "got 'mean'"),
    ],
)
def test_refusals_of_the_fused_head(kw, rule):
    with pytest.raises(ValueError, match=rule):
        distillation.policy_head_loss(**make(jnp.float32), **kw)


def make(dtype):
    rng = np.random.default_rng(5)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    mask = np.arange(5) < np.array([[5], [2], [3]])
    return {
        "hidden": draw(3, 5, 4),
        "head": draw(4, 11),
        "tokens": jnp.asarray(rng.integers(0, 11, (3, 5)), jnp.int32),
        "advantages": jnp.asarray([0.5, -0.25, -1.0], dtype),
        "response_mask": jnp.asarray(mask),
        "sequence_mask": jnp.asarray([True, True, False]),
    }


def plain(inputs, old, sampler, reduction):
    logits = inputs["hidden"] @ inputs["head"] / 0.7
    logprobs = token_log_probs(logits, inputs["tokens"])
    advantages = jnp.broadcast_to(inputs["advantages"][:, None], logprobs.shape)
    reference = jax.lax.stop_gradient(logprobs) if old is None else old
    per_token = distillation.policy_loss(logprobs, reference, advantages)
    if sampler is not None:
        per_token = per_token * distillation.rollout_correction(
            reference, sampler, inputs["response_mask"], 1.5
        )
    loss = distillation.aggregate(
        per_token, inputs["response_mask"], inputs["sequence_mask"], reduction=reduction
    )
    return loss, (logprobs, entropy(log_probs(logits)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "reduction", ["sequence_mean", pytest.param("token_mean", marks=pytest.mark.slow)]
)
def test_the_fused_head_is_the_plain_path(x64, reduction):
    inputs = make(jnp.float64)
    noise = lambda seed: 0.4 * jax.random.normal(jax.random.key(seed), (3, 5))  # noqa: E731
    now = plain(inputs, None, None, reduction)[1][0]
    old, sampler = (now + noise(1), now + noise(2)) if reduction == "token_mean" else (None, None)
    given = {} if old is None else {"old_logprobs": old, "sampler_logprobs": sampler}

    def fused(hidden, head):
        out = distillation.policy_head_loss(
            **{**inputs, "hidden": hidden, "head": head},
            rollout_clip=1.5, temperature=0.7, reduction=reduction, chunk_size=6, **given,
        )  # fmt: skip
        return out.loss, out

    def wanted(hidden, head):
        return plain({**inputs, "hidden": hidden, "head": head}, old, sampler, reduction)

    at = inputs["hidden"], inputs["head"]
    (got, out), got_grads = jax.jit(jax.value_and_grad(fused, (0, 1), has_aux=True))(*at)
    (want, aux), want_grads = jax.jit(jax.value_and_grad(wanted, (0, 1), has_aux=True))(*at)
    mask = inputs["response_mask"]
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)  # noqa: E731
    close(got, want)
    jax.tree.map(close, got_grads, want_grads)
    close(out.student_logprobs, jnp.where(mask, aux[0], 0))
    close(out.student_entropy, jnp.where(mask, aux[1], 0))
    if old is not None:
        # Neither clip nor correction is of the current policy, which has moved since: if the batch
        # began with it (negative control) the loss is another.
        moved, _ = plain(inputs, now, sampler, reduction)
        assert abs(moved - got) > 1e-3
        # The clips did hold somewhere; without them (negative control) the loss is another.
        wide = {"clip_low": 0.99, "clip_high": 1e3, "dual_clip": float("inf")}
        loose = distillation.policy_head_loss(
            **inputs, rollout_clip=1.5, temperature=0.7, reduction=reduction, **given, **wide
        )
        assert abs(loose.loss - got) > 1e-3


def test_padding_may_hold_anything():
    inputs = make(jnp.float32)
    dirty = jnp.where(inputs["response_mask"][..., None], inputs["hidden"], jnp.nan)

    @jax.jit
    @jax.value_and_grad
    def loss(hidden):
        return distillation.policy_head_loss(**{**inputs, "hidden": hidden}).loss

    jax.tree.map(np.testing.assert_array_equal, loss(inputs["hidden"]), loss(dirty))
