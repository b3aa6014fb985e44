"""The fused head against the plain path: same numbers, same gradients, less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax import distillation, information
from pgpo_jax._categorical import entropy, log_probs, token_log_probs

B, T, D, V = 3, 5, 4, 11
SUPPORTS = [("full", 0.5), ("full", 0), ("topk_tail", 0.5), ("topk", 0.3), ("sampled", 1)]


def make(dtype, seed=0, batch=B):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    lengths = rng.integers(1, T + 1, batch)
    lengths[0] = T
    return {
        "student_hidden": draw(batch, T, D),
        "teacher_hidden": draw(batch, T, D),
        "student_head": draw(D, V),
        "teacher_head": draw(D, V),
        "tokens": jnp.asarray(rng.integers(0, V, (batch, T))),
        "response_mask": jnp.asarray(np.arange(T) < lengths[:, None]),
        "sequence_mask": jnp.asarray(np.arange(batch) != 1),
    }


def plain(
    student_hidden, teacher_hidden, student_head, teacher_head, tokens, response_mask,
    sequence_mask=None, *, temperature=1.0, mode="sequence_mean", num_sequences=None,
    num_tokens=None, information_reduction="sequence_mean", importance=None, old_logprobs=None,
    is_clip=None, reference_hidden=None, reference_head=None, trust_region_rate=None,
    **kw,
):  # fmt: skip
    """The loss as one would write it with all logits in memory."""
    kw.pop("chunk_size", None)
    estimator = kw.pop("information", "entropy")
    student = student_hidden @ student_head
    teacher = teacher_hidden @ teacher_head
    if reference_hidden is not None:
        teacher = distillation.trust_region_logits(
            reference_hidden @ reference_head, teacher, trust_region_rate
        )
    student, teacher = student / temperature, teacher / temperature
    per_token = distillation.divergence(student, teacher, tokens=tokens, **kw)
    logprobs = token_log_probs(student, tokens)
    weighted = per_token
    if importance is not None:
        weighted = weighted * importance
    if is_clip is not None:
        weighted = weighted * distillation.importance_ratio(logprobs, old_logprobs, is_clip)
    loss = distillation.aggregate(
        weighted, response_mask, sequence_mask, mode=mode, num_sequences=num_sequences,
        num_tokens=num_tokens,
    )  # fmt: skip
    args = (student, teacher, response_mask, sequence_mask)
    if estimator == "pointwise":
        args = (logprobs, token_log_probs(teacher, tokens), response_mask, sequence_mask)
    gain = getattr(information, f"{estimator}_gain")(*args, reduction=information_reduction)
    return loss, (gain, per_token, logprobs, entropy(log_probs(student)))


def compare(inputs, tolerance, **kw):
    def fused_loss(hidden, head):
        out = distillation.sdpo_head_loss(
            **{**inputs, "student_hidden": hidden, "student_head": head}, **kw
        )
        return out.loss, out

    def plain_loss(hidden, head):
        return plain(**{**inputs, "student_hidden": hidden, "student_head": head}, **kw)

    at = inputs["student_hidden"], inputs["student_head"]
    (got, out), got_grads = jax.jit(jax.value_and_grad(fused_loss, (0, 1), has_aux=True))(*at)
    (want, aux), want_grads = jax.jit(jax.value_and_grad(plain_loss, (0, 1), has_aux=True))(*at)
    mask = inputs["response_mask"]
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)  # noqa: E731
    close(got, want)
    jax.tree.map(close, got_grads, want_grads)
    close(out.information, aux[0])
    close(out.divergence, jnp.where(mask, aux[1], 0))
    close(out.student_logprobs, jnp.where(mask, aux[2], 0))
    close(out.student_entropy, jnp.where(mask, aux[3], 0))
    close(jax.jit(fused_loss)(*at)[0], want)
    return out


@pytest.mark.parametrize(("support", "weight"), SUPPORTS)
@pytest.mark.parametrize("chunk_size", [1, 4, 1024])
def test_equals_the_plain_path(x64, support, weight, chunk_size):
    compare(
        make(jnp.float64), 1e-9, support=support, teacher_weight=weight, k=4, chunk_size=chunk_size
    )
