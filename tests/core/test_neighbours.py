"""Methods that are no objectives here, as losses of tokens in the fused head.

EOPD, IW-OPD, DemoPSD and AD-OPSD are made of public parts, against numbers of another program. That
shows that a loss of one's own may read the teacher, the student and a third model.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax import distillation
from pgpo_jax._categorical import entropy, log_probs, token_log_probs
from tests.core.test_family_losses import SAMPLED, STUDENT, TEACHER

REFERENCE = [[0.8, 0.1, -0.8, 0.4], [0.1, -0.1, 0.9, -0.2]]


def eopd(student, teacher, chunk):
    """Arxiv 2603.07079: where the teacher is unsure, its two likeliest words as well."""
    sampled = distillation.advantage_loss(student, teacher, tokens=chunk["tokens"])
    words = jax.nn.log_softmax(jax.lax.top_k(teacher, 2)[0])
    both = distillation.divergence(
        student, teacher, support="topk_teacher_ce", teacher_weight=0, k=2
    )
    unsure = entropy(log_probs(teacher)) > chunk["limit"]
    return sampled + jnp.where(unsure, both + (jnp.exp(words) * words).sum(-1), 0.0)


def iw_opd(student, teacher, chunk):
    """Arxiv 2606.22600: earlier tokens weigh more."""
    del teacher
    return -chunk["weighed_advantage"] * token_log_probs(student, chunk["tokens"])


def demopsd(student, teacher, chunk):
    """Arxiv 2607.02502: a target between the teacher and a copy of the student without context."""
    reference = chunk["reference_logits"]
    apart = distillation.divergence(reference, teacher, support="full")
    share = 0.3 * (jax.nn.sigmoid(50 * apart) - 0.5)[..., None]
    target = (1 - share) * log_probs(teacher) + share * log_probs(reference)
    return distillation.divergence(student, target, support="full", teacher_weight=1)


def ad_opsd(student, teacher, chunk):
    """Arxiv 2607.10805: the initial model where the student is surer than the teacher."""
    p, q, base = map(
        log_probs, (jax.lax.stop_gradient(student), teacher, chunk["reference_logits"])
    )
    away = jax.nn.sigmoid(jnp.exp(p) * (p - q))
    target = jnp.log(away * jnp.exp(base) + (1 - away) * jnp.exp(q))
    return distillation.divergence(student, target, support="full", teacher_weight=0)


CASES = {
    eopd: (0.809502240, (0.190450443, -0.271191479, 0.014729226, 0.066011810, 0.140810983)),
    iw_opd: (-0.208741262, (0.213338031, -0.070721335, -0.026016925, -0.116599770, 0.026164594)),
    demopsd: (0.133025381, (0.071365646, -0.092782117, -0.020255632, 0.041672103, 0.035484091)),
    ad_opsd: (0.062378508, (0.062025113, -0.080065852, -0.013575451, 0.031616189, 0.026123397)),
}


def numbers(dtype, limit):
    """What the losses read of each token besides logits."""
    student, teacher = (jnp.asarray([x], dtype) for x in (STUDENT, TEACHER))
    eye, mask = jnp.eye(4, dtype=dtype), jnp.ones((1, 2))
    own, other = (
        distillation.head_logprobs(x, eye, jnp.asarray(SAMPLED), mask) for x in (student, teacher)
    )
    advantage = other - own
    size = jnp.abs(advantage)
    weight = 1 + 0.5 * (1 - (jnp.cumsum(size, 1) - size) / size.sum(1, keepdims=True))
    return {"weighed_advantage": weight * advantage, "limit": jnp.full((1, 2), limit, dtype)}


def fused(loss, hidden, dtype, limit):
    teacher, reference = (jnp.asarray([x], dtype) for x in (TEACHER, REFERENCE))
    head, third = jnp.eye(4, dtype=dtype), {}
    if loss in (demopsd, ad_opsd):
        third = {"reference_hidden": reference, "reference_head": head}
    return distillation.taught_head_loss(
        loss,
        hidden,
        teacher,
        head,
        head,
        jnp.asarray(SAMPLED),
        jnp.ones((1, 2)),
        per_token=numbers(dtype, limit),
        reduction="token_mean",
        chunk_size=1,
        **third,
    ).loss


def plain(loss, hidden, dtype, limit):
    teacher, reference = (jnp.asarray([x], dtype) for x in (TEACHER, REFERENCE))
    known = {"tokens": jnp.asarray(SAMPLED), "reference_logits": reference}
    return loss(hidden, teacher, known | numbers(dtype, limit)).mean()


@pytest.mark.parametrize("path", [fused, plain])
@pytest.mark.parametrize("loss", CASES, ids=lambda loss: loss.__name__)
def test_the_loss_is_that_of_the_formula(x64, loss, path):
    value, gradient = CASES[loss]
    for dtype, tolerance in ((jnp.float64, 1e-9), (jnp.float32, 1e-6)):
        hidden = jnp.asarray([STUDENT], dtype)
        found, slopes = jax.value_and_grad(
            lambda hidden, dtype=dtype: path(loss, hidden, dtype, 1.15)
        )(hidden)
        np.testing.assert_allclose(found, value, atol=tolerance, rtol=0)
        got = [*slopes[0, 0], slopes[0, 1, 0]]
        np.testing.assert_allclose(got, gradient, atol=tolerance, rtol=0)


def test_a_comparison_can_fail(x64):
    """With another limit one of the two tokens is not gated."""
    hidden = jnp.asarray([STUDENT], jnp.float64)
    assert abs(float(fused(eopd, hidden, jnp.float64, 1.2)) - CASES[eopd][0]) > 1e-2
    with pytest.raises(KeyError, match="reference_logits"):
        distillation.taught_head_loss(
            demopsd, hidden, hidden, *[jnp.eye(4)] * 2, jnp.asarray(SAMPLED), jnp.ones((1, 2))
        )
