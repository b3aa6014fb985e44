"""The estimators against closed forms, a joint distribution of known information, extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from pgpo_jax import information
from pgpo_jax._reduce import mean_of, pooled

REDUCTIONS = ["sequence_mean", "token_mean", "sequence_sum"]


def reference(name, p, q, y):
    """Per-token values in plain numpy, from probabilities without zeros."""
    if name == "entropy":
        return -(p * np.log(p)).sum(-1) + (q * np.log(q)).sum(-1)
    if name == "kl":
        return (q * np.log(q / p)).sum(-1)
    if name == "js":
        m = (p + q) / 2
        return ((p * np.log(p / m)).sum(-1) + (q * np.log(q / m)).sum(-1)) / 2
    if name == "pointwise":
        pick = lambda r: np.take_along_axis(r, y[..., None], -1)[..., 0]  # noqa: E731
        return np.log(pick(q) / pick(p))
    raise AssertionError(f"no closed form for {name}: add its row")


def call(name, student, teacher, tokens, mask, *args, **kw):
    """The public function, whatever it takes."""
    if name == "pointwise":
        pick = lambda z: jnp.take_along_axis(  # noqa: E731
            jax.nn.log_softmax(z), tokens[..., None], axis=-1
        )[..., 0]
        student, teacher = pick(student), pick(teacher)
    return getattr(information, f"{name}_gain")(student, teacher, mask, *args, **kw)


def draw(shape, seed=0):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(shape[-1]), (2, *shape[:-1]))
    return p, q, rng.integers(0, shape[-1], shape[:-1])


@pytest.mark.parametrize("vocabulary", [2, 7])
@pytest.mark.parametrize("name", information.ESTIMATORS)
def test_closed_forms_and_reductions(x64, name, vocabulary):
    p, q, y = draw((3, 4, vocabulary))
    value = reference(name, p, q, y)
    student, teacher, tokens = jnp.log(p) + 3.0, jnp.log(q) - 1.0, jnp.asarray(y)
    got = information.ESTIMATORS[name](student, teacher, tokens)
    np.testing.assert_allclose(got, value, rtol=1e-11)

    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], float)
    sums, lengths = (value * mask).sum(1), mask.sum(1)
    want = {
        "sequence_mean": (sums[0] / 3 + sums[1]) / 2,
        "token_mean": sums.sum() / 4,
        "sequence_sum": (sums[0] + sums[1]) / 2,
    }
    assert len({round(x, 9) for x in want.values()}) == 3
    for reduction in REDUCTIONS:
        got = call(name, student, teacher, tokens, jnp.asarray(mask), reduction=reduction)
        np.testing.assert_allclose(got, want[reduction], rtol=1e-11)
        only = call(
            name, student, teacher, tokens, jnp.asarray(mask), jnp.array([0, 1, 1]),
            reduction=reduction,
        )  # fmt: skip
        np.testing.assert_allclose(only, value[1, 0], rtol=1e-11)
    assert lengths[2] == 0


@pytest.fixture
def joint():
    """P(f, y): three feedbacks, four words; with its mutual information in nats."""
    table = np.array([[0.20, 0.05, 0.03, 0.02], [0.01, 0.24, 0.02, 0.03], [0.06, 0.04, 0.10, 0.20]])
    f, y = table.sum(1), table.sum(0)
    return table, f, y, (table * np.log(table / np.outer(f, y))).sum()


def per_feedback(name, joint, student):
    table, f, _, _ = joint
    teacher = jnp.log(table / f[:, None])[:, None]
    logits = jnp.broadcast_to(jnp.log(student), teacher.shape)
    return np.array(
        [call(name, logits[i : i + 1], teacher[i : i + 1], None, jnp.ones((1, 1)))
         for i in range(len(f))]
    )  # fmt: skip


def test_a_joint_distribution_of_known_information(x64, joint):
    """Averaged over feedback, with the marginal as student, two estimators are I(y; f) exactly."""
    _, f, y, mutual = joint
    assert mutual > 0.2
    for name in ("entropy", "kl"):
        np.testing.assert_allclose(f @ per_feedback(name, joint, y), mutual, rtol=1e-12)
    # and the third is not an unbiased one, nor are the first two with another student
    assert f @ per_feedback("js", joint, y) < 0.5 * mutual
    other = np.full(4, 0.25)
    excess = (y * np.log(y / other)).sum()
    np.testing.assert_allclose(f @ per_feedback("kl", joint, other), mutual + excess, rtol=1e-12)
    assert abs(f @ per_feedback("entropy", joint, other) - mutual) > 1e-3


def test_pointwise_gain_averages_to_the_same(x64, joint):
    table, f, y, mutual = joint
    log_q, log_p = np.log(table / f[:, None]), np.broadcast_to(np.log(y), table.shape)
    gains = [
        information.pointwise_gain(jnp.array([[p]]), jnp.array([[q]]), jnp.ones((1, 1)))
        for p, q in zip(log_p.ravel(), log_q.ravel(), strict=True)
    ]
    np.testing.assert_allclose(table.ravel() @ np.array(gains), mutual, rtol=1e-12)


def test_one_feedback_may_lower_certainty(x64):
    """A nearly certain student whom feedback makes doubt: Eq. 8 is negative, KL is not."""
    student = jnp.log(jnp.array([[[0.98, 0.01, 0.01]]]))
    teacher = jnp.log(jnp.array([[[0.5, 0.25, 0.25]]]))
    assert information.entropy_gain(student, teacher, jnp.ones((1, 1))) < -0.5
    assert information.kl_gain(student, teacher, jnp.ones((1, 1))) > 0.5


INF = float("inf")
ROWS = {
    "uniform": [0.0, 0.0, 0.0, 0.0],
    "one_hot": [1e4, 0.0, 0.0, 0.0],
    "other_hot": [0.0, 1e4, 0.0, 0.0],
    "certain": [0.0, -INF, -INF, -INF],
    "padded": [0.3, -0.2, 0.1, -INF],
    "nothing": [-INF] * 4,
}
EXACT = [  # estimator, student, teacher, nats
    ("entropy", "uniform", "one_hot", np.log(4)),
    ("entropy", "one_hot", "uniform", -np.log(4)),
    ("entropy", "uniform", "certain", np.log(4)),
    ("entropy", "certain", "certain", 0.0),
    ("kl", "uniform", "certain", np.log(4)),
    ("kl", "one_hot", "other_hot", 1e4),
    ("kl", "padded", "padded", 0.0),
    # An impossible word counts as the smallest normal probability.
    ("kl", "certain", "uniform", -np.log(4) - 0.75 * np.log(np.finfo(np.float32).tiny)),
    ("js", "one_hot", "other_hot", np.log(2)),
    ("js", "certain", "certain", 0.0),
    ("pointwise", "uniform", "certain", np.log(4)),
]


@pytest.mark.parametrize(("name", "student", "teacher", "want"), EXACT)
def test_extremes(name, student, teacher, want):
    student, teacher = (jnp.array(ROWS[r], jnp.float32) for r in (student, teacher))
    got = information.ESTIMATORS[name](student, teacher, jnp.array(0))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", information.ESTIMATORS)
def test_finite_with_finite_gradients_on_every_pair_of_extremes(name):
    rows = jnp.array(list(ROWS.values()), jnp.float32)
    student, teacher = jnp.repeat(rows, len(rows), 0), jnp.tile(rows, (len(rows), 1))
    tokens = jnp.full(len(student), 3)
    f = lambda s, t: jnp.sum(information.ESTIMATORS[name](s, t, tokens))  # noqa: E731
    value, gradients = jax.value_and_grad(f, (0, 1))(student, teacher)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(g).all() for g in gradients)


def test_plain_softmax_would_fail_that():
    """Negative control: the textbook formula has NaN gradients at -inf."""
    row = jnp.array(ROWS["padded"])
    f = lambda z: -jnp.sum(jax.nn.softmax(z) * jax.nn.log_softmax(z))  # noqa: E731
    assert jnp.isnan(jax.grad(f)(row)).any()


@pytest.mark.parametrize("name", information.ESTIMATORS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nothing_counts(name, reduction):
    """No token or no sequence: zero, so that rho = 1, even over NaN padding."""
    logits, tokens = jnp.full((2, 3, 4), jnp.nan), jnp.zeros((2, 3), int)
    ones, none = jnp.ones((2, 3)), jnp.zeros(2)
    for masks in ((0 * ones,), (ones, none)):
        assert call(name, logits, logits, tokens, *masks, reduction=reduction) == 0


@pytest.mark.parametrize("name", information.ESTIMATORS)
def test_float32_for_half_precision(name):
    p, q, y = draw((2, 3, 5))
    student, teacher = (jnp.log(r).astype(jnp.bfloat16) for r in (p, q))
    got = information.ESTIMATORS[name](student, teacher, jnp.asarray(y))
    wide = information.ESTIMATORS[name](
        student.astype(jnp.float32), teacher.astype(jnp.float32), jnp.asarray(y)
    )
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, wide, rtol=1e-6)


def test_micro_batches_pool_to_the_batch(x64):
    """Sums and counts add up; the mean of means (negative control) is another number."""
    values = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    mask = jnp.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]])
    for reduction in REDUCTIONS:
        whole = mean_of(*pooled(values, mask, None, reduction))
        parts = [pooled(values[i : i + 2], mask[i : i + 2], None, reduction) for i in (0, 2)]
        total, count = (sum(x) for x in zip(*parts, strict=True))
        np.testing.assert_allclose(mean_of(total, count), whole, rtol=1e-12)
        assert abs(sum(mean_of(*part) for part in parts) / 2 - whole) > 1e-3


@given(st.integers(0, 2**31), st.floats(0.01, 30))
@example(0, 29.0)  # The unclipped sum is 1.1e-6 above the bound.
@settings(max_examples=25, deadline=None)
def test_bounds(seed, scale):
    rng = np.random.default_rng(seed)
    student, teacher = jnp.asarray(scale * rng.normal(size=(2, 5, 6)), jnp.float32)
    gain = {n: f(student, teacher, jnp.zeros(5, int)) for n, f in information.ESTIMATORS.items()}
    assert (gain["kl"] >= 0).all()
    assert (gain["js"] >= 0).all()
    assert (gain["js"] <= np.float32(np.log(2))).all()
    assert (abs(gain["entropy"]) <= np.log(6) + 1e-5).all()


def test_refusals():
    logits, mask = jnp.zeros((1, 2, 3)), jnp.ones((1, 2))
    with pytest.raises(ValueError, match=r"reduction must be one of .* got 'mean'"):
        information.entropy_gain(logits, logits, mask, reduction="mean")
    with pytest.raises(ValueError, match="tokens"):
        information.ESTIMATORS["pointwise"](logits, logits, None)
