"""The losses of OPSD, SDFT, RLSD and SRPO against numbers of another program.

The numbers are of a vocabulary of four and two response tokens, made with numpy (values) and JAX
in float64 (gradients) from formulas written apart from this package.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax import distillation
from pgpo_jax._categorical import token_log_probs

STUDENT = [[1.0, 0.0, -1.0, 0.5], [0.2, -0.3, 0.8, 0.0]]
TEACHER = [[0.5, 1.0, -0.5, 0.0], [0.0, 0.4, 1.2, -0.6]]
STUDENT_B = [[0.0, 0.3, -0.2, 0.1], [0.6, -0.4, 0.0, 0.2]]
TEACHER_B = [[0.9, -0.3, 0.1, 0.0], [-0.2, 1.1, 0.3, 0.5]]
SAMPLED = [[0, 2]]
MEAN, SUM = {"reduction": "token_mean"}, {"reduction": "sequence_sum"}
FORWARD = {"teacher_weight": 0, "support": "full"}

# name -> (settings, loss, its gradient in the first token's logits and the second's first one)
DIVERGENCES = {
    "OPSD": (
        FORWARD | MEAN,
        0.164626612,
        (0.098993251, -0.140341373, -0.018694319, 0.060042442, 0.039112581),
    ),
    "OPSD at temperature 1.1": (
        FORWARD | MEAN | {"temperature": 1.1},
        0.137277999,
        (0.080811116, -0.114957215, -0.017147659, 0.051293758, 0.032563603),
    ),
    "OPSD, entries cut at .05": (
        FORWARD | MEAN | {"entry_clip": 0.05},
        -0.088000616,
        (-0.008852520, 0.047511502, -0.033289657, -0.005369325, -0.049942902),
    ),
    "OPSD, JSD": (
        {"support": "full"} | MEAN,
        0.039020528,
        (0.020766095, -0.028313412, -0.005047957, 0.012595273, 0.009447194),
    ),
    "OPSD's public code": (
        {"support": "topk_teacher", "k": 2} | MEAN,
        0.033485391,
        (0.038434760, -0.038434760, 0.0, 0.0, 0.0),
    ),
    "OPSD, Eq. 9": (
        {"support": "sampled", "teacher_weight": 1} | MEAN,
        -0.118857654,
        (0.142225354, -0.047147557, -0.017344617, -0.077733180, 0.023091359),
    ),
    "SDFT, one token left out": (
        FORWARD | {"response_mask": jnp.array([[0, 1]])},
        0.085906952,
        (0.0, 0.0, 0.0, 0.0, 0.078225163),
    ),
    "SDFT, ratios 1.5 and 3": (
        FORWARD | {"ratios": (1.5, 3.0), "rollout_clip": 2.0, "rollout_level": "sequence"},
        0.288096572,
        (0.173238189, -0.245597403, -0.032715059, 0.105074273, 0.068447017),
    ),
    "SDFT, Eq. 1 as printed": (
        {"teacher_weight": 1, "support": "full"},
        0.155047742,
        (0.077190575, -0.102381790, -0.021627234, 0.046818450, 0.036353637),
    ),
    "SDFT in TRL": (
        {"support": "topk", "k": 2},
        0.004581400,
        (0.0, 0.0, 0.0, 0.0, 0.016088977),
    ),
    "SDFT in tinker": (
        {"support": "topk_teacher_ce", "teacher_weight": 0, "k": 2} | SUM,
        2.556357044,
        (0.096450177, -0.448087844, 0.064147685, 0.287489981, 0.235439247),
    ),
    "the convention of the weight": (
        {"teacher_weight": 0.3, "support": "full"} | MEAN,
        0.033263383,
        None,
    ),
}


def arrays(dtype):
    """Hidden states that are the logits, behind heads that change nothing."""
    student, teacher = (jnp.asarray([x], dtype) for x in (STUDENT, TEACHER))
    return student, teacher, jnp.eye(4, dtype=dtype), jnp.asarray(SAMPLED)


def sampler_of(ratios, student):
    """Log-probabilities of a sampler to which the student has these ratios."""
    return token_log_probs(student, jnp.asarray(SAMPLED)) - jnp.log(
        jnp.asarray([ratios], student.dtype)
    )


def fused(hidden, dtype, *, chunk_size=1, **kw):
    """Through the head, a token at a time."""
    student, teacher, head, tokens = arrays(dtype)
    mask = kw.pop("response_mask", jnp.ones((1, 2)))
    if "ratios" in kw:
        kw["sampler_logprobs"] = sampler_of(kw.pop("ratios"), student)
    return distillation.sdpo_head_loss(
        hidden, teacher, head, head, tokens, mask, chunk_size=chunk_size, **kw
    ).loss


def plain(hidden, dtype, *, temperature=1.0, reduction="sequence_mean", ratios=None, **kw):
    """With all logits at once."""
    student, teacher, _, tokens = arrays(dtype)
    mask = kw.pop("response_mask", jnp.ones((1, 2)))
    clip, level = kw.pop("rollout_clip", None), kw.pop("rollout_level", "token")
    losses = distillation.divergence(hidden, teacher, tokens=tokens, temperature=temperature, **kw)
    if ratios is not None:
        assert level == "sequence"
        losses = losses * distillation.sequence_ratio(
            token_log_probs(student, tokens), sampler_of(ratios, student), mask, clip
        )
    return distillation.aggregate(losses, mask, reduction=reduction)


def check(loss, dtype, value, gradient, tolerance, **kw):
    found, slopes = jax.value_and_grad(lambda z: loss(z, dtype, **kw))(arrays(dtype)[0])
    np.testing.assert_allclose(found, value, atol=tolerance, rtol=0)
    if gradient is not None:
        got = [*slopes[0, 0], slopes[0, 1, 0]]
        np.testing.assert_allclose(got, gradient, atol=tolerance, rtol=0)


@pytest.mark.parametrize("path", [fused, plain])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences(x64, name, path):
    settings, value, gradient = DIVERGENCES[name]
    check(path, jnp.float64, value, gradient, 1e-9, **settings)
    check(path, jnp.float32, value, gradient, 1e-6, **settings)


def test_a_comparison_can_fail(x64):
    settings, value, gradient = DIVERGENCES["OPSD, entries cut at .05"]
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(fused, jnp.float64, value, gradient, 1e-9, **settings | {"entry_clip": 0.0500001})


def taught(loss, dtype, hidden, teacher, per_token, **kw):
    batch = hidden.shape[0]
    head = jnp.eye(4, dtype=dtype)
    tokens = jnp.asarray([*SAMPLED, [1, 3]])[:batch]
    return distillation.taught_head_loss(
        loss,
        hidden,
        teacher,
        head,
        head,
        tokens,
        jnp.ones((batch, 2)),
        per_token={name: jnp.asarray(x, dtype) for name, x in per_token.items()},
        reduction="token_mean",
        chunk_size=1,
        **kw,
    ).loss


RESCALED = {
    1.0: (-1.0, (-0.236704119, 0.078467169, 0.028866458, 0.129370491, 0.129491586)),
    -1.0: (1.005471092, (0.289305035, -0.095904318, -0.035281227, -0.158119489, -0.107235771)),
}


@pytest.mark.parametrize("advantage", RESCALED)
def test_rescaled_advantages_in_the_head(x64, advantage):
    value, gradient = RESCALED[advantage]

    def loss(hidden, dtype):
        teacher, row = arrays(dtype)[1], jnp.ones((1, 2))
        per_token = {"advantages": advantage * row, "mix": 0.5 * row}
        return taught(distillation.rescaled_loss(), dtype, hidden, teacher, per_token)

    check(loss, jnp.float64, value, gradient, 1e-9)
    check(loss, jnp.float32, value, gradient, 1e-6)


@pytest.mark.parametrize(
    ("advantage", "variant", "mix", "want"),
    [
        (1.0, "algorithm1", 0.5, (0.9, 1.1)),
        (-1.0, "algorithm1", 0.5, (-1.1, -0.910942184)),
        (1.0, "eq16", 1.0, (0.582298892, 1.2)),
        # The cut at 1.2 is lost.
        (-1.0, "eq16", 1.0, (-1.717331105, -0.821884368)),
        (-1.0, "algorithm1", 0.0, (-1.0, -1.0)),
    ],
)
def test_both_rules_of_rescaling(x64, advantage, variant, mix, want):
    """Algorithm 1 and Eq. 16 differ, but where the teacher has no share."""
    ratio = jnp.array([-0.5407714029, 0.1961555655])
    found = distillation.rescaled_advantages(
        jnp.full(2, advantage), ratio, mix=mix, variant=variant
    )
    np.testing.assert_allclose(found, want, atol=1e-9)
    # Negative control: the other rule.
    other = {"eq16": "algorithm1", "algorithm1": "eq16"}[variant]
    found = distillation.rescaled_advantages(jnp.full(2, advantage), ratio, mix=mix, variant=other)
    assert np.allclose(found, want, atol=1e-9) is (mix == 0.0)


ROUTED = {
    0.5: (-0.220814568, (-0.065751144, 0.021796436, 0.008018461, 0.035936248, 0.029429906)),
    1.0: (-0.470814568, (-0.131502288, 0.043592872, 0.016036921, 0.071872495, 0.058859812)),
}


def routed(hidden, dtype, advantage, beta=1.0):
    """A right response with an advantage and a wrong one with a teacher, in one batch."""
    wrong = jnp.asarray([STUDENT_B], dtype)
    teachers = jnp.asarray([TEACHER, TEACHER_B], dtype)
    entropies = distillation.head_entropies(teachers, jnp.eye(4, dtype=dtype), jnp.ones((2, 2)))
    mean = jnp.exp(-beta * entropies[1]).mean()
    rows = jnp.ones((2, 2), dtype) * jnp.array([[1], [0]], dtype)
    per_token = {"advantages": advantage * rows, "reinforce": rows, "distil": (1 - rows) / mean}
    hidden = jnp.concatenate([hidden, wrong])

    def distance(student, teacher, chunk):
        return distillation.divergence(student, teacher, support="full")

    loss = distillation.routed_loss(distance, beta=beta)
    return taught(loss, dtype, hidden, teachers, per_token)


@pytest.mark.parametrize("advantage", ROUTED)
def test_a_policy_loss_and_a_divergence_with_one_denominator(x64, advantage):
    value, gradient = ROUTED[advantage]
    check(routed, jnp.float64, value, gradient, 1e-9, advantage=advantage)
    check(routed, jnp.float32, value, gradient, 1e-6, advantage=advantage)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(routed, jnp.float64, value, gradient, 1e-9, advantage=advantage, beta=1.1)


def test_the_weights_of_the_parts(x64):
    teacher = jnp.asarray([TEACHER_B])
    entropies = distillation.head_entropies(teacher, jnp.eye(4), jnp.ones((1, 2)), chunk_size=1)
    np.testing.assert_allclose(entropies[0], (1.272591793, 1.279429572), atol=1e-9)
    weights = distillation.entropy_weights(teacher[0])
    np.testing.assert_allclose(weights / weights.mean(), (1.003418876, 0.996581124), atol=1e-9)
    # A mixture of two teachers is that of their logits.
    other = jnp.asarray([TEACHER])
    mixed = distillation.head_entropies(
        teacher,
        jnp.eye(4),
        jnp.ones((1, 2)),
        reference_hidden=other,
        reference_head=jnp.eye(4),
        trust_region_rate=0.3,
    )
    want = distillation.head_entropies(0.7 * other + 0.3 * teacher, jnp.eye(4), jnp.ones((1, 2)))
    np.testing.assert_allclose(mixed, want, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        ({"support": "topk_teacher_ce"}, "teacher_weight must be 0, got 0.5"),
        ({"support": "sampled", "teacher_weight": 1, "entry_clip": 0.1}, "takes none, got 0.1"),
        ({"entry_clip": 0.0}, "entry_clip must be a number > 0, got 0.0"),
        ({"rollout_level": "row"}, "rollout_level must be one of token, sequence, got 'row'"),
    ],
)
def test_refusals(call, rule):
    with pytest.raises(ValueError, match=rule):
        fused(arrays(jnp.float32)[0], jnp.float32, **call)
    with pytest.raises(ValueError, match="variant must be one of algorithm1, eq16, got 'eq15'"):
        distillation.rescaled_advantages(jnp.ones(2), jnp.ones(2), variant="eq15")
    with pytest.raises(ValueError, match=r"clip must be a number in \[0, 1\), got 1"):
        distillation.rescaled_advantages(jnp.ones(2), jnp.ones(2), clip=1)
