"""The fused head against the plain path: same numbers, same gradients, less memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

from pgpo_jax import distillation, information
from pgpo_jax._categorical import entropy, log_probs, token_log_probs
from pgpo_jax.distillation._chunks import chunk_layout
from pgpo_jax.distillation._most_likely import most_likely

B, T, D, V = 3, 5, 4, 11


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
    sequence_mask=None, *, temperature=1.0, reduction="sequence_mean", num_sequences=None,
    num_tokens=None, signal_reduction="sequence_mean", importance=None, sampler_logprobs=None,
    rollout_clip=None, reference_hidden=None, reference_head=None, trust_region_rate=None,
    **kw,
):  # fmt: skip
    """The loss as one would write it with all logits in memory."""
    kw.pop("chunk_size", None)
    level, success = kw.pop("modulation", "none"), kw.pop("success", None)
    bounds = {name: kw.pop(name) for name in ("alpha", "rho_max", "rho_min") if name in kw}
    estimator = kw.pop("estimator", "entropy")
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
    gains = information.ESTIMATORS["pointwise" if estimator == "outcome" else estimator](
        student, teacher, tokens
    )
    if success is not None:
        gains = gains * jnp.where(success, 1.0, -1.0).astype(gains.dtype)[:, None]
    if level != "none":
        weighted = weighted * distillation.modulation_weights(
            gains, response_mask, level=level, **bounds
        )
    if importance is not None:
        weighted = weighted * importance
    if rollout_clip is not None:
        weighted = weighted * distillation.importance_ratio(
            logprobs, sampler_logprobs, rollout_clip
        )
    loss = distillation.aggregate(
        weighted, response_mask, sequence_mask, reduction=reduction, num_sequences=num_sequences,
        num_tokens=num_tokens,
    )  # fmt: skip
    args = (student, teacher, response_mask, sequence_mask)
    if estimator in ("pointwise", "outcome"):
        graded = [] if success is None else [success]
        args = (logprobs, token_log_probs(teacher, tokens), *graded, response_mask, sequence_mask)
    gain = getattr(information, f"{estimator}_gain")(*args, reduction=signal_reduction)
    of_teacher = token_log_probs(teacher, tokens), entropy(log_probs(teacher))
    return loss, (gain, per_token, logprobs, entropy(log_probs(student)), gains, *of_teacher)


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
    close(out.gain, jnp.where(mask, aux[4], 0))
    close(out.teacher_logprobs, jnp.where(mask, aux[5], 0))
    close(out.teacher_entropy, jnp.where(mask, aux[6], 0))


CASES = {
    "full": {"support": "full", "chunk_size": 4},
    "full_w0": {"support": "full", "teacher_weight": 0, "estimator": "kl"},
    "tail": {"chunk_size": 6},
    "tail_w1": {"teacher_weight": 1, "signal_reduction": "sequence_sum", "chunk_size": 7},
    "topk": {"support": "topk", "teacher_weight": 0.3, "estimator": "js", "chunk_size": 1},
    "sampled": {"support": "sampled", "teacher_weight": 1, "estimator": "pointwise"},
    "token_mean": {"reduction": "token_mean", "signal_reduction": "token_mean", "chunk_size": 5},
    "sequence_sum": {"reduction": "sequence_sum", "num_sequences": 9, "chunk_size": 2},
    "denominator": {"reduction": "token_mean", "num_tokens": 40, "temperature": 0.7},
    "weights": {
        "importance": "BT",
        "sampler_logprobs": "BT",
        "rollout_clip": 1.1,
        "temperature": 0.7,
    },
    "by_token": {"modulation": "token", "alpha": 2.0, "rho_max": 1.5, "chunk_size": 6},
    "by_sequence": {
        "modulation": "sequence",
        "estimator": "outcome",
        "success": "B",
        "alpha": 3.0,
        "rho_min": 0.5,
        "chunk_size": 4,
    },
    "trust_region": {
        "reference_hidden": "BTD",
        "reference_head": "DV",
        "trust_region_rate": 0.3,
        "chunk_size": 6,
    },
}


def options(name, dtype):
    rng = np.random.default_rng(7)
    shape = {"B": B, "BT": (B, T), "BTD": (B, T, D), "DV": (D, V)}
    made = {k: v if v not in shape else rng.normal(size=shape[v]) for k, v in CASES[name].items()}
    if "success" in made:
        # One of each, the last sequence without a signal.
        made["success"] = np.array([1.0, 0.0, 1.0])
    if "importance" in made:
        made["importance"] = np.abs(made["importance"])
        made["sampler_logprobs"] = made["sampler_logprobs"] - 2.4
    arrays = {k: jnp.asarray(v, dtype) for k, v in made.items() if isinstance(v, np.ndarray)}
    return {"k": 4, **made, **arrays}


# Between them every option, once; the reductions are those of `aggregate`.
FAST = {"tail", "topk", "sampled", "weights", "by_sequence", "trust_region"}


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def test_equals_the_plain_path(x64, name):
    compare(make(jnp.float64), 1e-9, **options(name, jnp.float64))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["topk", "full", "tail", "sampled"],
)
def test_equals_the_plain_path_in_float32(name):
    compare(make(jnp.float32), 2e-5, **options(name, jnp.float32))


def test_the_comparison_can_fail(x64, monkeypatch):
    """Negative control: an error of one part in a million in the fused path is noticed."""
    import pgpo_jax.distillation._head as module

    right = module.divergence
    monkeypatch.setattr(module, "divergence", lambda *a, **kw: right(*a, **kw) * (1 + 1e-6))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compare(make(jnp.float64), 1e-9, k=4)


def loss_of(inputs, **kw):
    """Loss as a function of every float input."""
    names = ("student_hidden", "student_head", "teacher_hidden", "teacher_head")

    def loss(*values):
        return distillation.sdpo_head_loss(
            **{**inputs, **dict(zip(names, values, strict=True))}, k=4, chunk_size=6, **kw
        )

    return loss, tuple(inputs[n] for n in names)


def value_and_grads(loss):
    def with_all(*values):
        out = loss(*values)
        return out.loss, out

    return jax.jit(jax.value_and_grad(with_all, (0, 1), has_aux=True))


def test_only_the_loss_carries_a_gradient_and_only_to_the_student(x64):
    loss, at = loss_of(make(jnp.float64))
    student, head, *teacher = jax.jit(jax.grad(lambda *x: loss(*x).loss, (0, 1, 2, 3)))(*at)
    assert student.any()
    assert head.any()
    assert not any(g.any() for g in teacher)

    def others(*values):
        out = loss(*values)._replace(loss=jnp.zeros([]), information_count=jnp.zeros([]))
        return sum(jnp.sum(x) for x in jax.tree.leaves(out))

    assert not any(g.any() for g in jax.jit(jax.grad(others, (0, 1, 2, 3)))(*at))


@pytest.mark.slow
def test_the_signal_may_come_from_other_sequences_than_the_loss(x64):
    inputs = make(jnp.float64)
    del inputs["sequence_mask"]
    first, others = jnp.array([1, 0, 0]), jnp.array([0, 1, 1])
    one, two, three = (
        distillation.sdpo_head_loss(**inputs, k=4, sequence_mask=rows, signal_mask=signal)
        for rows, signal in ((first, None), (first, others), (others, None))
    )
    assert one.loss == two.loss != three.loss
    np.testing.assert_allclose(two.information, three.information, rtol=1e-12)
    assert int(two.information_count) == 2
    assert abs(one.information - two.information) > 1e-3  # negative control


@pytest.mark.slow
def test_gradient_of_one_side_only(x64):
    """A frozen head (LoRA) costs no head gradient, nor does a frozen trunk one for its states."""
    loss, at = loss_of(make(jnp.float64))
    grad = lambda n: jax.jit(jax.grad(lambda *x: 3 * loss(*x).loss, n))  # noqa: E731
    both = grad((0, 1))(*at)
    # The gradient was taken in the forward pass: the factor must reach it all the same.
    once = jax.jit(jax.grad(lambda *x: loss(*x).loss, (0, 1)))(*at)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 3 * b, rtol=1e-12), both, once)
    for n in (0, 1):
        np.testing.assert_allclose(grad(n)(*at), both[n], rtol=1e-12)
    flops = [grad(n).lower(*at).compile().cost_analysis()["flops"] for n in (0, 1, (0, 1))]
    assert max(flops[:2]) < flops[2]


def test_one_head_product_for_each_side(x64):
    loss, at = loss_of(make(jnp.float64))
    products = lambda loss: str(jax.make_jaxpr(loss)(*at)).count("dot_general[")  # noqa: E731
    assert products(loss) == 2
    for level, want in (("token", 2), ("sequence", 4)):
        loss, _ = loss_of(make(jnp.float64), modulation=level)
        assert products(loss) == want


def test_padding_may_hold_anything():
    inputs = make(jnp.float32)
    off = ~inputs["response_mask"]
    dirty = {
        name: jnp.where(off[..., None], jnp.nan, inputs[name])
        for name in ("student_hidden", "teacher_hidden")
    }
    dirty["tokens"] = jnp.where(off, -100, inputs["tokens"])
    results = []
    for case in (inputs, {**inputs, **dirty}):
        loss, at = loss_of(case)
        results.append(value_and_grads(loss)(*at))
    jax.tree.map(np.testing.assert_array_equal, *results)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(results[1]))
    assert (results[1][0][1].student_entropy[off] == 0).all()


def test_nothing_counts():
    inputs = make(jnp.float32)

    @jax.jit
    def run(student_hidden, response_mask, sequence_mask):
        names = ("student_hidden", "response_mask", "sequence_mask")
        values = (student_hidden, response_mask, sequence_mask)
        changed = dict(zip(names, values, strict=True))
        out = distillation.sdpo_head_loss(**{**inputs, **changed}, k=4)
        return out.loss, out

    step = jax.jit(jax.value_and_grad(run, has_aux=True))
    tokens, rows = inputs["response_mask"], inputs["sequence_mask"]
    for masks in ((tokens & False, rows), (tokens, rows & False)):
        (_, out), gradient = step(inputs["student_hidden"], *masks)
        assert (out.loss, out.information, out.information_count) == (0, 0, 0)
        assert not gradient.any()


@pytest.mark.slow
def test_micro_batches_add_up_to_the_batch(x64):
    """Loss, gradient and signal of two halves, pooled with the batch's denominators."""
    inputs = make(jnp.float64, batch=4)
    del inputs["sequence_mask"]
    per_row = ("student_hidden", "teacher_hidden", "tokens", "response_mask")
    for reduction in ("sequence_mean", "token_mean"):
        total = (
            {"num_sequences": 4}
            if reduction == "sequence_mean"
            else {"num_tokens": inputs["response_mask"].sum()}
        )

        def run(head, start, size, reduction=reduction, total=total):
            rows = {n: inputs[n][start : start + size] for n in per_row}
            out = distillation.sdpo_head_loss(
                **{**inputs, **rows, "student_head": head},
                reduction=reduction, signal_reduction=reduction, k=4, **total,
            )  # fmt: skip
            return out.loss, out

        run = jax.jit(jax.value_and_grad(run, has_aux=True), static_argnums=(1, 2))
        (want, whole), want_gradient = run(inputs["student_head"], 0, 4)
        parts = [run(inputs["student_head"], i, 2) for i in (0, 2)]
        (losses, outs), gradients = zip(*[p[0] for p in parts], strict=True), [p[1] for p in parts]
        np.testing.assert_allclose(sum(losses), want, rtol=1e-12)
        np.testing.assert_allclose(sum(gradients), want_gradient, rtol=1e-10)
        pooled = sum(o.information_sum for o in outs) / float(
            sum(o.information_count for o in outs)
        )
        np.testing.assert_allclose(pooled, whole.information, rtol=1e-12)


@pytest.mark.slow
def test_half_precision():
    """bfloat16 in: float32 statistics close to the plain path's, bfloat16 gradients out."""
    inputs = make(jnp.bfloat16)
    loss, at = loss_of(inputs)
    (_, out), grads = value_and_grads(loss)(*at)
    assert [g.dtype for g in grads] == [jnp.bfloat16] * 2
    wide = {k: v.astype(jnp.float32) if v.dtype == jnp.bfloat16 else v for k, v in inputs.items()}
    loss32, at32 = loss_of(wide)
    (want, want_out), want_grads = value_and_grads(loss32)(*at32)
    assert out.loss.dtype == out.information.dtype == jnp.float32
    np.testing.assert_allclose(out.loss, want, rtol=1e-5)
    np.testing.assert_allclose(out.student_entropy, want_out.student_entropy, rtol=1e-5)
    for got, reference in zip(grads, want_grads, strict=True):
        np.testing.assert_allclose(got.astype(jnp.float32), reference, atol=2e-3)


@pytest.mark.slow
def test_states_and_head_of_different_precision(x64):
    """The gradient comes back in the type of each, summed over chunks in the wider one."""
    inputs = make(jnp.float64)
    loss, (hidden, head, *teacher) = loss_of(inputs)
    _, want = value_and_grads(loss)(hidden, head, *teacher)
    for at in ((hidden, head.astype(jnp.float32)), (hidden.astype(jnp.float32), head)):
        _, got = value_and_grads(loss)(*at, *teacher)
        assert [g.dtype for g in got] == [x.dtype for x in at]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)


@pytest.mark.slow
@pytest.mark.parametrize(
    "support",
    ["topk_tail", *(pytest.param(x, marks=pytest.mark.slow) for x in ("full", "topk", "sampled"))],
)
def test_sharded_head(support):
    """Head over vocabulary, batch over sequences: one device's numbers, and no whole head."""
    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    rng = np.random.default_rng(3)
    hidden = jnp.asarray(rng.normal(size=(4, 8, 16)), jnp.float32)
    head = jnp.asarray(rng.normal(size=(16, 64)), jnp.float32)
    tokens = jnp.asarray(rng.integers(0, 64, (4, 8)), jnp.int32)
    mask = jnp.asarray(np.arange(8) < np.array([[8], [3], [5], [1]]))
    args = (hidden, hidden[::-1], head, head[:, ::-1], tokens, mask)
    rows, columns = P("data"), P(None, "tensor")
    where = tuple(NamedSharding(mesh, s) for s in (rows, rows, columns, columns, rows, rows))

    def loss(*args):
        weight = 1.0 if support == "sampled" else 0.5
        out = distillation.sdpo_head_loss(
            *args, support=support, teacher_weight=weight, k=8, chunk_size=8
        )
        return out.loss, out

    step = jax.jit(jax.value_and_grad(loss, (0, 2), has_aux=True))
    want = step(*args)
    placed = jax.device_put(args, where)
    compiled = step.lower(*placed).compile()
    got = compiled(*placed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), got, want)
    assert got[1][1].sharding.is_equivalent_to(where[2], 2)
    gathered = re.findall(r"= f32\[([\d,]+)\]\S* all-gather\(", compiled.as_text())
    assert "16,64" not in gathered
    # of the chunk's logits (4 rows x 2 tokens) at most this device's rows, never the whole batch's
    assert all(np.prod([int(n) for n in shape.split(",")]) <= 4 * 64 for shape in gathered)


def test_top_k_over_any_number_of_batch_axes():
    """The partitioned top-k: under vmap, grad and jit what lax.top_k gives."""
    z = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 9)), jnp.float32)
    want = jax.lax.top_k(z, 3)[1]
    for f in (lambda z: most_likely(z, 3), jax.vmap(jax.vmap(lambda z: most_likely(z, 3)))):
        np.testing.assert_array_equal(jax.jit(f)(z), want)
    per_row = lambda z: distillation.divergence(z, z[::-1], k=3).sum()  # noqa: E731
    batched = jax.jit(jax.vmap(jax.grad(per_row)))(z)
    np.testing.assert_allclose(batched[1], jax.jit(jax.grad(per_row))(z[1]), rtol=1e-5)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_tokens():
    """Eight times the tokens: not even half again the memory; the plain path takes eight times."""

    def temp(loss, length):
        shapes = [(1, length, 8), (1, length, 8), (8, 4096), (8, 4096)]
        inputs = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
        inputs += [jax.ShapeDtypeStruct((1, length), jnp.int32)] * 2
        compiled = jax.jit(jax.grad(loss, (0, 2))).lower(*inputs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    fused = lambda *x: distillation.sdpo_head_loss(*x, k=8, chunk_size=32).loss  # noqa: E731
    naive = lambda *x: plain(*x, k=8)[0]  # noqa: E731
    assert temp(fused, 256) < 1.5 * temp(fused, 32)
    assert temp(naive, 256) > 6 * temp(naive, 32)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 5, 4), (5, 3, 4), (8, 1, 3), (2, 7, 100), (1, 9, 9)]
)
def test_chunks_partition_the_tokens(shape):
    batch, tokens, size = shape
    layout = chunk_layout(*shape)
    x = jnp.arange(batch * tokens).reshape(batch, tokens) + 1
    chunks = layout.split(x)
    assert sorted(v for v in np.asarray(chunks).ravel() if v) == list(range(1, batch * tokens + 1))
    assert chunks[0].size <= size
    np.testing.assert_array_equal(layout.join(chunks), x)


@pytest.mark.parametrize(
    ("kw", "rule"),
    [
        ({"estimator": "mutual"}, "estimator must be one of entropy, kl, .* got 'mutual'"),
        ({"chunk_size": 0}, "chunk_size must be at least 1 token, got 0"),
        ({"rollout_clip": 2.0}, "belong together; got only rollout_clip"),
        ({"trust_region_rate": 0.1}, "trust_region_rate needs both"),
        ({"reference_head": jnp.ones((D, V))}, "reference_hidden and reference_head belong"),
        ({"reference_hidden": jnp.ones((B, T, D))}, "belong together; got reference_hidden alone"),
        ({"support": "topk", "k": 0}, "k must be"),
        ({"support": "sampled"}, "teacher_weight must be 1"),
        ({"reduction": "mean"}, "got 'mean'"),
        ({"signal_reduction": "mean"}, "got 'mean'"),
        ({"modulation": "word"}, "modulation must be one of none, token, sequence, got 'word'"),
        ({"modulation": "token", "alpha": -1.0}, "alpha must be"),
        ({"estimator": "outcome"}, "belong together; got 'outcome' without success"),
        ({"success": jnp.ones(B)}, "belong together; got 'entropy' with success"),
    ],
)
def test_refusals(kw, rule):
    with pytest.raises(ValueError, match=rule):
        distillation.sdpo_head_loss(**make(jnp.float32), **kw)
