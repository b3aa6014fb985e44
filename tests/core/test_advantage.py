"""Distillation as a policy gradient, and raw supports: against recorded values and formulas.

The numbers are those of a vocabulary of four and a response of two tokens, made by an independent
script in float64; the old policy is the current one, so that each ratio is 1.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax import distillation
from pgpo_jax.distillation import advantage_loss, divergence, on_support, taught_head_loss

STUDENT = np.array([[1.0, 0.0, -1.0, 0.5], [0.2, -0.3, 0.8, 0.0]])
TEACHER = np.array([[0.5, 1.0, -0.5, 0.0], [0.0, 0.4, 1.2, -0.6]])
TOKENS = np.array([0, 2])
TOLERANCE = {"float64": 1e-9, "float32": 1e-6}

REVERSE = {"teacher_weight": 1, "k": 2}
# name: (loss per token of two logits and the tokens, reduction, value, gradient at the first token,
# at the first word of the second).
ROWS = {
    "student's top-2, raw": (
        lambda p, q, y: divergence(p, q, support="topk_raw", **REVERSE),
        "token_mean",
        0.211358742,
        (0.087096652, -0.102292233, -0.037631209, 0.052826790),
        0.085755977,
    ),
    "student's top-2, renormalised": (
        lambda p, q, y: divergence(p, q, support="topk", **REVERSE),
        "token_mean",
        0.019200367,
        (0, 0, 0, 0),
        0.068635272,
    ),
    "sampled, as a sum": (
        lambda p, q, y: advantage_loss(p, q, tokens=y),
        "sequence_sum",
        0.344615837,
        (0.284450708, -0.094295114, -0.034689234, -0.155466360),
        0.046182719,
    ),
    "top-2 rewards": (
        lambda p, q, y: advantage_loss(p, q, support="topk_raw", k=2),
        "token_mean",
        0.278611027,
        (0.040143755, -0.047147557, -0.017344617, 0.024348418),
        0.069613300,
    ),
    "sampled, with a floor that does not hold": (
        lambda p, q, y: advantage_loss(p, q, tokens=y, floor=np.log(0.3) / 0.7),
        "token_mean",
        0.172307918,
        (0.142225354, -0.047147557, -0.017344617, -0.077733180),
        0.023091359,
    ),
}


def plain(loss, reduction, logits, teacher, tokens):
    per_token = loss(logits, jnp.asarray(teacher, logits.dtype), jnp.asarray(tokens))
    return distillation.aggregate(per_token[None], jnp.ones((1, 2)), reduction=reduction)


def fused(loss, reduction, logits, teacher, tokens):
    """The logits as hidden states of a head that leaves them as they are, a token at a time."""
    head = jnp.eye(4, dtype=logits.dtype)
    return taught_head_loss(
        lambda p, q, chunk: loss(p, q, chunk["tokens"]),
        logits[None],
        jnp.asarray(teacher, logits.dtype)[None],
        head,
        head,
        jnp.asarray(tokens)[None],
        jnp.ones((1, 2)),
        reduction=reduction,
        chunk_size=1,
    ).loss


def value_and_gradient(path, loss, reduction, dtype, teacher=TEACHER, tokens=TOKENS):
    def whole(logits):
        return path(loss, reduction, logits, teacher, tokens)

    return jax.jit(jax.value_and_grad(whole))(jnp.asarray(STUDENT, dtype))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("path", [plain, fused])
@pytest.mark.parametrize("name", ROWS)
def test_recorded_values_and_gradients(x64, name, path, dtype):
    loss, reduction, value, first, second = ROWS[name]
    got, gradient = value_and_gradient(path, loss, reduction, dtype)
    assert got.dtype == dtype
    near = {"atol": TOLERANCE[dtype], "rtol": 0}
    np.testing.assert_allclose(got, value, **near)
    np.testing.assert_allclose(gradient[0], first, **near)
    np.testing.assert_allclose(gradient[1, 0], second, **near)


@pytest.mark.parametrize("path", [plain, fused])
def test_a_floor_bounds_the_advantage(x64, path):
    teacher, tokens = TEACHER.copy(), np.array([2, 2])
    teacher[0, 2] = -5.0

    def loss(p, q, y):
        return advantage_loss(p, q, tokens=y, floor=np.log(0.3) / 0.7)

    got, gradient = value_and_gradient(path, loss, "token_mean", "float64", teacher, tokens)
    first = (-0.407622920, -0.149956092, 0.804814811, -0.247235799)
    np.testing.assert_allclose(got, 0.761902792, atol=1e-9)
    np.testing.assert_allclose(gradient[0], first, atol=1e-9)
    np.testing.assert_allclose(gradient[1, 0], 0.023091359, atol=1e-9)
    # Negative control: without the floor the first token weighs more.
    free, _ = value_and_gradient(
        path,
        lambda p, q, y: advantage_loss(p, q, tokens=y),
        "token_mean",
        "float64",
        teacher,
        tokens,
    )
    assert free > got + 0.5


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


UNION = ([0, 1, 3], [0, 1, 2])


@pytest.mark.parametrize("weight", [0, 0.5, 1])
def test_the_union_counts_each_word_once(x64, weight):
    p, q = np.exp(log_softmax(STUDENT)), np.exp(log_softmax(TEACHER))
    wanted = []
    for token, words in enumerate(UNION):
        a, b = p[token, words], q[token, words]
        m = {0: b, 0.5: (a + b) / 2, 1: a}[weight]
        pairs = {0: [(1, b, a)], 0.5: [(0.5, a, m), (0.5, b, m)], 1: [(1, a, b)]}[weight]
        wanted.append(sum(w * (x * np.log(x / y)).sum() for w, x, y in pairs))
    got = divergence(
        jnp.asarray(STUDENT),
        jnp.asarray(TEACHER),
        teacher_weight=weight,
        support="topk_union",
        k=2,
    )
    np.testing.assert_allclose(got, wanted, atol=1e-12)
    # Negative control: a word that both have is not there twice.
    log_p, _ = on_support(jnp.asarray(STUDENT), jnp.asarray(TEACHER), "topk_union", 2)
    assert log_p.shape == (2, 4)
    np.testing.assert_array_equal(np.isinf(log_p).sum(-1), [1, 1])


def test_advantages_on_the_union(x64):
    log_p, log_q = log_softmax(STUDENT), log_softmax(TEACHER)
    slope = np.zeros((2, 4))
    for token, words in enumerate(UNION):
        advantage = np.zeros(4)
        advantage[words] = (np.exp(log_p) * (log_q - log_p))[token, words]
        # Of -sum_v A_v log p_v with constant A.
        slope[token] = -advantage + advantage.sum() * np.exp(log_p[token])
    _, gradient = value_and_gradient(
        fused,
        lambda p, q, y: advantage_loss(p, q, support="topk_union", k=2),
        "sequence_sum",
        float,
    )
    np.testing.assert_allclose(gradient, slope, atol=1e-12)


@pytest.mark.parametrize("support", ["full", "topk_tail", "topk", "topk_teacher"])
def test_on_a_normalised_support_the_gradient_is_that_of_the_divergence(x64, support):
    rng = np.random.default_rng(0)
    student, teacher = (jnp.asarray(2 * rng.normal(size=(5, 11))) for _ in range(2))
    shared = {"support": support, "k": 4, "temperature": 0.7}

    def of(loss, **more):
        return jax.value_and_grad(lambda x: loss(x, teacher, **shared, **more).sum())(student)

    ours, theirs = of(advantage_loss), of(divergence, teacher_weight=1)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-10)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-10)
    # Negative control: on the raw supports the two differ.
    shared["support"] = "topk_raw"
    assert np.abs(of(advantage_loss)[1] - of(divergence, teacher_weight=1)[1]).max() > 1e-3


def test_the_raw_sum_may_be_negative_and_is_not_cut():
    student = jnp.log(jnp.array([[0.4, 0.3, 0.3]]))
    teacher = jnp.log(jnp.array([[0.8, 0.1, 0.1]]))
    got = divergence(student, teacher, teacher_weight=1, support="topk_raw", k=1)
    assert float(got[0]) == pytest.approx(0.4 * np.log(0.5), rel=1e-5)


def test_forbidden_words_leave_value_and_gradient_finite():
    student = jnp.array([[1.0, 0.0, -jnp.inf, 0.5]])
    teacher = jnp.array([[-jnp.inf, 0.3, 0.1, 0.2]])
    for support in ("sampled", "topk_raw", "topk_union", "full"):

        def loss(x, support=support):
            tokens = jnp.array([0])
            return advantage_loss(x, teacher, support=support, k=2, tokens=tokens).sum()

        value, gradient = jax.value_and_grad(loss)(student)
        assert jnp.isfinite(value)
        assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("kw", "rule"),
    [
        ({}, "needs the sampled `tokens`"),
        ({"support": "topk_teacher_ce"}, "has no advantages"),
        ({"support": "topk_raw", "k": 0}, "k must be at least 1"),
        ({"support": "topk", "floor": -1.0}, "support must be 'sampled', got 'topk'"),
        ({"tokens": jnp.asarray(TOKENS), "floor": 0.5}, "floor must be a number < 0, got 0.5"),
        ({"support": "nucleus"}, "support must be one of"),
    ],
)
def test_refusals(kw, rule):
    with pytest.raises(ValueError, match=rule):
        advantage_loss(jnp.asarray(STUDENT), jnp.asarray(TEACHER), **kw)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("k", "ratio", "advantage"),
    [(2, (0.5, 0.5), (0.0, 0.0)), (3, (1.0, 2 / 3), (-0.220514415, -0.038400733))],
)
def test_recorded_overlaps(x64, k, ratio, advantage, dtype):
    student, teacher = (jnp.asarray(x, dtype) for x in (STUDENT, TEACHER))
    got = distillation.overlap(student, teacher, k)
    np.testing.assert_allclose(got.ratio, ratio, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(got.advantage, advantage, atol=TOLERANCE[dtype])
    # Through the fused head too, where nothing of it is measured unasked.
    head = jnp.eye(4, dtype=dtype)
    rest = (head, head, jnp.asarray(TOKENS)[None], jnp.ones((1, 2)))

    def fused(**more):
        def loss(p, q, chunk):
            return divergence(p, q, support="full")

        return taught_head_loss(loss, student[None], teacher[None], *rest, **more)

    assert fused().overlap_ratio is None
    out = fused(overlap_k=k, chunk_size=1)
    np.testing.assert_allclose(out.overlap_ratio[0], ratio, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(out.overlap_advantage[0], advantage, atol=TOLERANCE[dtype])


def test_overlap_of_nothing_and_of_everything():
    student, teacher = jnp.array([[3.0, 2.0, 0.0, 0.0]]), jnp.array([[0.0, 0.0, 2.0, 3.0]])
    none = distillation.overlap(student, teacher, 2)
    assert (float(none.ratio[0]), float(none.advantage[0])) == (0.0, 0.0)
    same = distillation.overlap(student, student, 9)
    assert (float(same.ratio[0]), float(same.advantage[0])) == (1.0, 0.0)
    # Its advantage over all words is minus the KL.
    whole = distillation.overlap(student, teacher, 4).advantage
    kl = divergence(student, teacher, teacher_weight=1, support="full")
    np.testing.assert_allclose(whole, -kl, rtol=1e-5)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        distillation.overlap(student, teacher, 0)
