"""The losses where the recorded vectors are silent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.test_util import check_grads

from pgpo_jax import distillation

INF = float("inf")
# Compiled once per case: the many small operations are slow one by one.
divergence = jax.jit(
    distillation.divergence, static_argnames=("teacher_weight", "support", "k", "temperature")
)
WEIGHTS = [0, 0.1, 0.5, 0.9, 1]


def kl(a, b):
    return (a * np.log(a / b)).sum(-1)


def reference(p, q, w):
    if w in (0, 1):
        return kl(q, p) if w == 0 else kl(p, q)
    m = (1 - w) * p + w * q
    return (1 - w) * kl(p, m) + w * kl(q, m)


def restrict(p, q, support, k):
    """The distributions on the support, made by sorting."""
    if support == "full":
        return p, q
    order = np.argsort(-p, axis=-1, kind="stable")[..., :k]
    p, q = (np.take_along_axis(r, order, -1) for r in (p, q))
    if support == "topk":
        return p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    return tuple(np.concatenate([r, 1 - r.sum(-1, keepdims=True)], -1) for r in (p, q))


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits(shape=(2, 3, 9), seed=0):
    z, u, r = np.random.default_rng(seed).normal(size=(3, *shape))
    return z, u, r


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("support", ["full", "topk_tail", "topk"])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_every_weight_and_support(x64, weight, support, temperature):
    z, u, _ = logits()
    want = reference(
        *restrict(softmax(z / temperature), softmax(u / temperature), support, 4), weight
    )
    got = divergence(
        jnp.asarray(z), jnp.asarray(u),
        teacher_weight=weight, support=support, k=4, temperature=temperature,
    )  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.slow
def test_gradients_agree_with_finite_differences(x64):
    z, u, _ = logits((2, 7))
    for support, weight in [("full", 0.3), ("topk_tail", 0.3), ("topk", 1), ("topk_tail", 0)]:
        f = lambda z, s=support, w=weight: divergence(  # noqa: E731
            jnp.asarray(z), jnp.asarray(u), teacher_weight=w, support=s, k=3, temperature=0.7
        ).sum()

        check_grads(f, (jnp.asarray(z),), order=1, modes=["rev"], atol=1e-7, rtol=1e-7)


def every_weight(z, u, cases):
    """Value and gradient of each (support, k) at each weight, in one compiled program."""

    @jax.jit
    def run(z, u):
        one = lambda s, k, w: jax.value_and_grad(  # noqa: E731
            lambda z: distillation.divergence(z, u, teacher_weight=w, support=s, k=k).sum()
        )(z)
        return [[one(s, k, w) for w in WEIGHTS] for s, k in cases]

    return run(z, u)


def test_k_at_least_v_is_full(x64):
    z, u, _ = map(jnp.asarray, logits())
    cases = [("full", 1), *((s, k) for s in ("topk_tail", "topk") for k in (9, 50))]
    want, *others = every_weight(z, u, cases)
    for got in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, want)


@pytest.mark.slow
def test_tail_completes_the_vocabulary(x64):
    """With one word left over, the tail bucket is that word: the full divergence and gradient."""
    z, u, _ = map(jnp.asarray, logits())
    full, tail, cut = every_weight(z, u, [("full", 1), ("topk_tail", 8), ("topk", 8)])
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)  # noqa: E731
    jax.tree.map(close, tail, full)
    for i in range(len(WEIGHTS)):  # negative control: renormalising does not complete it
        assert abs(cut[i][0] - full[i][0]) > 1e-3


def test_one_word(x64):
    """k=1: two buckets with the tail, a divergence of nothing without."""
    z, u, _ = logits()
    got = divergence(jnp.asarray(z), jnp.asarray(u), k=1)
    want = reference(*restrict(softmax(z), softmax(u), "topk_tail", 1), 0.5)
    np.testing.assert_allclose(got, want, rtol=1e-10)
    none = divergence(jnp.asarray(z), jnp.asarray(u), support="topk", k=1)
    np.testing.assert_allclose(none, 0, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_hot_disagreement(x64, dtype):
    """Certain of different words: log 2 for w=1/2, the whole gap for the KLs."""
    z = jnp.array([1000.0, 0.0, 0.0], dtype)
    u = jnp.array([0.0, 1000.0, 0.0], dtype)
    for support in ("full", "topk_tail"):
        run = lambda w, s=support: divergence(  # noqa: E731
            z, u, teacher_weight=w, support=s, k=2
        )
        np.testing.assert_allclose(run(0.5), np.log(2), rtol=1e-5)
        np.testing.assert_allclose([run(0), run(1)], 1000, rtol=1e-5)


def test_ties_and_saturated_mass(x64):
    """Equal logits: k of them are taken, no more; a tail below float resolution stays finite."""
    z, u = jnp.zeros((1, 6)), jnp.asarray(logits((1, 6))[1])
    got = divergence(z, u, k=3)
    q = softmax(np.asarray(u))[0]
    p = np.array([1 / 6] * 3 + [1 / 2])
    np.testing.assert_allclose(
        got[0], reference(p, np.array([*q[:3], q[3:].sum()]), 0.5), rtol=1e-10
    )
    peaked = jnp.array([[50.0, 0.0, 0.0, 0.0]], jnp.float32)
    for value, gradient in every_weight(peaked, peaked, [("topk_tail", 2)])[0]:
        assert 0 <= value < 1e-7
        assert jnp.isfinite(gradient).all()


@pytest.mark.slow
@given(
    st.integers(0, 2**31),
    st.floats(0.001, 30),
    st.floats(0, 10),
    st.sampled_from(WEIGHTS),
    st.sampled_from(["full", "topk_tail", "topk"]),
)
@settings(max_examples=40, deadline=None)
def test_never_negative(seed, scale, gap, weight, support):
    """Also where student and teacher nearly agree and rounding decides the sign."""
    rng = np.random.default_rng(seed)
    z = jnp.asarray(scale * rng.normal(size=(4, 8)), jnp.float32)
    u = z + jnp.asarray(10**-gap * rng.normal(size=(4, 8)), jnp.float32)
    got = divergence(z, u, teacher_weight=weight, support=support, k=3)
    assert (got >= 0).all()
    assert jnp.isfinite(got).all()


def test_where_rounding_cuts_the_value_the_gradient_is_whole():
    """A student so near its teacher has a divergence below rounding, but a gradient far above."""
    z, u, _ = logits((500, 4))
    z, u = jnp.asarray(z, jnp.float32), jnp.asarray(z + 1e-4 * u, jnp.float32)
    f = lambda z: distillation.divergence(z, u, teacher_weight=0, support="full")  # noqa: E731
    value, gradient = jax.jit(lambda z: (f(z), jax.grad(lambda z: f(z).sum())(z)))(z)
    want = jax.nn.softmax(z) - jax.nn.softmax(u)
    np.testing.assert_allclose(gradient, want, atol=3e-7)
    cut = value == 0
    assert 50 < cut.sum() < 450
    assert jnp.abs(want[cut]).max() > 1e-5


def test_truncation_without_renormalising_would_go_negative():
    """Negative control for the tail: what verl#7856 reports."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.6, 0.35, 0.05])
    assert (p[:2] * np.log(p[:2] / q[:2])).sum() < 0
    assert divergence(jnp.log(p), jnp.log(q), teacher_weight=1, k=2) > 0


ROWS = [
    [0.3, -0.2, 0.1, 0.5],
    [0.3, -0.2, 0.1, -INF],
    [-INF, 0.2, 0.1, 0.4],
    [-INF, -INF, 0.1, -INF],
    [1e4, 0.0, -1e4, 0.0],
    [-INF] * 4,
]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("support", "weight"),
    [
        *((s, 0.5) for s in ("full", "topk_tail", "topk")),
        ("sampled", 1),
        *(
            pytest.param(s, w, marks=pytest.mark.slow)
            for s in ("full", "topk_tail", "topk")
            for w in (0, 1)
        ),
    ],
)
def test_minus_infinity_in_student_teacher_or_both(support, weight, dtype):
    rows = jnp.array(ROWS, dtype)
    z, u = jnp.repeat(rows, len(rows), 0), jnp.tile(rows, (len(rows), 1))
    values, pull = jax.vjp(
        lambda z: divergence(
            z, u, teacher_weight=weight, support=support, k=2, tokens=jnp.full(len(z), 3)
        ),
        z,
    )
    assert values.dtype == jnp.float32
    assert jnp.isfinite(values).all()
    assert jnp.isfinite(pull(jnp.ones_like(values))[0]).all()


def test_forbidden_words_on_both_sides_change_nothing(x64):
    z, u, _ = map(jnp.asarray, logits())
    pad = lambda x: jnp.concatenate([x, jnp.full((2, 3, 5), -jnp.inf)], -1)  # noqa: E731
    for support, weight in [("full", 0.5), ("full", 0), ("topk_tail", 1), ("topk", 0.3)]:
        run = lambda z, u, s=support, w=weight: divergence(  # noqa: E731
            z, u, teacher_weight=w, support=s, k=4
        )
        np.testing.assert_allclose(run(pad(z), pad(u)), run(z, u), rtol=1e-12)


@pytest.mark.parametrize("reduction", ["sequence_mean", "token_mean", "sequence_sum"])
def test_masked_rows_hold_anything(reduction):
    """Nothing counts: zero loss, zero gradient; some counts: garbage elsewhere does not leak."""
    z, u, _ = (jnp.asarray(x, jnp.float32) for x in logits((3, 2, 6)))

    @jax.jit
    @jax.value_and_grad
    def loss(z, mask, rows):
        per_token = divergence(z, u, k=2)
        return distillation.aggregate(per_token, mask, rows, reduction=reduction)

    ones, rows = jnp.ones((3, 2)), jnp.array([1, 0, 1])
    for masks in ((0 * ones, rows), (ones, 0 * rows)):
        value, gradient = loss(z, *masks)
        assert value == 0
        assert (gradient == 0).all()
    value, gradient = loss(z.at[1].set(-jnp.inf), ones, rows)
    want, want_gradient = loss(z, ones, rows)
    assert value == want
    np.testing.assert_array_equal(gradient, want_gradient)


def test_denominators(x64):
    losses = jnp.array([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0], [7.0, 8.0, 9.0]])
    mask = jnp.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    rows = jnp.array([1, 1, 0])
    mean = distillation.aggregate
    assert mean(losses, mask, rows) == (2 + 4) / 3
    assert mean(losses, mask, rows, reduction="token_mean") == 10 / 4
    assert mean(losses, mask, rows, reduction="sequence_sum") == 10 / 3
    # dropped rows and micro-batches keep the batch's denominator
    parts = [mean(losses[i : i + 1], mask[i : i + 1], num_sequences=3) for i in (0, 1)]
    np.testing.assert_allclose(sum(parts), mean(losses, mask, rows))
    parts = [
        mean(losses[i : i + 1], mask[i : i + 1], reduction="token_mean", num_tokens=4)
        for i in (0, 1)
    ]
    np.testing.assert_allclose(sum(parts), 10 / 4)
    with pytest.raises(ValueError, match="num_sequences"):
        mean(losses, mask, reduction="token_mean", num_sequences=3)
    with pytest.raises(ValueError, match="num_tokens"):
        mean(losses, mask, num_tokens=3)
    with pytest.raises(ValueError, match=r"got 'mean'"):
        mean(losses, mask, reduction="mean")


def test_mode_is_another_name_of_reduction():
    losses, mask = jnp.array([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0]]), jnp.array([[1, 1, 1], [1, 0, 0]])
    mean = distillation.aggregate
    for name in ("sequence_mean", "token_mean", "sequence_sum"):
        assert mean(losses, mask, mode=name) == mean(losses, mask, reduction=name)
    assert mean(losses, mask, mode="token_mean") != mean(losses, mask)  # negative control
    for reduction in ("token_mean", "sequence_mean"):
        with pytest.raises(ValueError, match=f"reduction='{reduction}' and mode='token_mean'"):
            mean(losses, mask, reduction=reduction, mode="token_mean")
    for name in ("", "mean"):
        with pytest.raises(ValueError, match=f"reduction must be one of .* got '{name}'"):
            mean(losses, mask, mode=name)


def test_teacher_has_no_gradient(x64):
    z, u, r = map(jnp.asarray, logits())

    def loss(u, r):
        teacher = distillation.trust_region_logits(r, u, 0.05)
        return sum(
            divergence(z, t, teacher_weight=w, support=s, k=3, tokens=jnp.zeros((2, 3), int)).sum()
            for t in (teacher, u)
            for s, w in [("full", 0), ("topk_tail", 0.5), ("topk", 0.5), ("sampled", 1)]
        )

    assert not any(g.any() for g in jax.grad(loss, (0, 1))(u, r))


def test_trust_region_teacher(x64):
    z, _, r = logits()
    teacher = distillation.trust_region_logits(jnp.asarray(r), jnp.asarray(z), 0.05)
    # raw logits are mixed, so before the temperature: the geometric mean of the policies
    geometric = softmax(r) ** 0.95 * softmax(z) ** 0.05
    geometric /= geometric.sum(-1, keepdims=True)
    np.testing.assert_allclose(jax.nn.softmax(teacher), geometric, rtol=1e-10)
    got = divergence(jnp.asarray(z), teacher, support="full", temperature=0.7)
    mixed = softmax((0.95 * r + 0.05 * z) / 0.7)
    np.testing.assert_allclose(got, reference(softmax(z / 0.7), mixed, 0.5), rtol=1e-9)
    inf = jnp.array([0.0, -jnp.inf])
    for rate in (0, 0.5, 1):
        got = distillation.trust_region_logits(inf, inf, rate)
        np.testing.assert_array_equal(got, inf)
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        distillation.trust_region_logits(inf, inf, 1.5)


def test_importance_weights(x64):
    now = jnp.log(jnp.array([[0.2, 0.9, 0.1, 1e-30]]))
    old = jnp.log(jnp.array([[0.4, 0.3, 0.1, 1.0]]))
    ratio = distillation.importance_ratio(now, old)
    np.testing.assert_allclose(ratio, [[0.5, 2.0, 1.0, np.exp(-20)]], rtol=1e-12)
    fixed = distillation.rollout_correction(now, old, jnp.array([[1, 1, 0, 1]]), 1.5)
    np.testing.assert_allclose(fixed, [[0.5, 1.5, 0.0, np.exp(-20)]], rtol=1e-12)
    gradient = jax.grad(lambda x: distillation.importance_ratio(x, old).sum())(now)
    assert not gradient.any()
    with pytest.raises(ValueError, match="got 0"):
        distillation.importance_ratio(now, old, 0)


@pytest.mark.parametrize(
    ("kw", "rule"),
    [
        ({"support": "topk-tail"}, "support must be one of .* got 'topk-tail'"),
        ({"teacher_weight": 1.5}, r"teacher_weight must be in \[0, 1\], got 1.5"),
        ({"teacher_weight": float("nan")}, "got nan"),
        ({"k": 0}, "k must be at least 1.*got 0"),
        ({"temperature": 0}, "temperature must be .* got 0"),
        ({"support": "sampled"}, "teacher_weight must be 1, got 0.5"),
        ({"support": "sampled", "teacher_weight": 1}, "tokens"),
    ],
)
def test_refusals(kw, rule):
    z = jnp.zeros((1, 2, 3))
    with pytest.raises(ValueError, match=rule):
        distillation.divergence(z, z, **kw)
