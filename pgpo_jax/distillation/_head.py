"""SDPO's loss and PGPO's signal straight from hidden states, a chunk of tokens at a time.

The vocabulary is what makes this loss large: [B, T, V] in float32, several times over. Here one
chunk of tokens at a time goes through the head, and because the loss is linear in the per-token
divergences with weights known beforehand, the gradient with respect to that chunk's logits is
taken at once, while they exist. Neither pass is done twice and no array over tokens and
vocabulary outlives its chunk.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int, ScalarLike

from pgpo_jax._categorical import entropy, log_probs, token_log_probs
from pgpo_jax._precision import at_least_float32, wider
from pgpo_jax._reduce import Mask, SequenceMask, check_choice, mean_of, pooled
from pgpo_jax.distillation._aggregate import aggregate
from pgpo_jax.distillation._chunks import chunk_layout
from pgpo_jax.distillation._divergence import check_divergence, divergence, tempered
from pgpo_jax.distillation._importance import importance_ratio
from pgpo_jax.distillation._teacher import check_rate, trust_region_logits
from pgpo_jax.information import ESTIMATORS


class HeadLoss(NamedTuple):
    """What one pass over the vocabulary yields. Only `loss` carries a gradient.

    Attributes:
        loss: to be minimised.
        information: I_k, nats.
        information_sum: `information` before its division; add it up over micro-batches,
        information_count: and divide by the sum of this (0 if nothing counts).
        divergence: per-token divergence before importance weights, nats; 0 off the response, as
            all that follow.
        student_logprobs: of the sampled tokens at the temperature, nats.
        teacher_logprobs: the teacher's.
        student_entropy: of the next-token distribution, nats.
        teacher_entropy: the teacher's.
    """

    loss: Float[Array, ""]
    information: Float[Array, ""]
    information_sum: Float[Array, ""]
    information_count: Int[Array, ""]
    divergence: Float[Array, "B T"]
    student_logprobs: Float[Array, "B T"]
    teacher_logprobs: Float[Array, "B T"]
    student_entropy: Float[Array, "B T"]
    teacher_entropy: Float[Array, "B T"]


def head_logits(
    hidden: Float[Array, "*batch D"], head: Float[Array, "D V"]
) -> Float[Array, "*batch V"]:
    """Logits accumulated in at least float32 whatever the inputs' dtype."""
    dtype = wider(hidden.dtype, head.dtype)
    return jnp.einsum(
        "...d,dv->...v",
        hidden.astype(dtype),
        head.astype(dtype),
        preferred_element_type=at_least_float32(dtype),
    )


def _head_gradients(
    logit_gradient: Float[Array, "*batch V"],
    hidden: Float[Array, "*batch D"],
    head: Float[Array, "D V"],
) -> tuple[Float[Array, "*batch D"], Float[Array, "D V"]]:
    """The transpose of `head_logits`; accumulated, and the head's returned, in float32 or wider."""
    dtype = wider(hidden.dtype, head.dtype)
    wide = at_least_float32(dtype)
    # The products run in the dtype of the forward one: half-precision units stay in use.
    g = logit_gradient.astype(dtype)
    to_hidden = jnp.einsum(
        "...v,dv->...d", g, head.astype(dtype), preferred_element_type=wide
    ).astype(hidden.dtype)
    to_head = jnp.einsum("rld,rlv->dv", hidden.astype(dtype), g, preferred_element_type=wide)
    return to_hidden, to_head


def sdpo_head_loss(
    student_hidden: Float[Array, "B T D"],
    teacher_hidden: Float[Array, "B T Dt"],
    student_head: Float[Array, "D V"],
    teacher_head: Float[Array, "Dt V"],
    tokens: Int[Array, "B T"],
    response_mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    teacher_weight: float | int = 0.5,
    support: str = "topk_tail",
    k: int = 100,
    temperature: float | int = 1.0,
    mode: str = "sequence_mean",
    num_sequences: ScalarLike | None = None,
    num_tokens: ScalarLike | None = None,
    information: str = "entropy",
    information_reduction: str = "sequence_mean",
    signal_mask: SequenceMask | None = None,
    reference_hidden: Float[Array, "B T Dr"] | None = None,
    reference_head: Float[Array, "Dr V"] | None = None,
    trust_region_rate: float | int | None = None,
    importance: Float[Array, "B T"] | None = None,
    old_logprobs: Float[Array, "B T"] | None = None,
    is_clip: float | int | None = None,
    chunk_size: int = 512,
) -> HeadLoss:
    r"""Loss, information signal and token statistics in one pass over the vocabulary.

    Equal to `aggregate(weights * divergence(h @ W, ...), ...)` and the estimator of
    `pgpo_jax.information` on the same logits: the functions called on a chunk are those. The
    gradient with respect to `student_hidden` and `student_head` is exact; there is none to the
    teacher, the reference, or through any output but `loss`. First derivatives, reverse mode only.

    Args:
        student_hidden: final hidden states at the positions that predict `tokens`.
        teacher_hidden: the same of the teacher, on its own prompt. With `trust_region_rate` these
            are the live student's, on the teacher's prompt.
        student_head: output projection, `logits = hidden @ head`.
        teacher_head: the teacher's.
        tokens: sampled response tokens.
        response_mask: response tokens (nonzero: counts). Off the mask anything may stand.
        sequence_mask: sequences with a teacher signal; all of them if omitted.
        teacher_weight: see `divergence`, as are `support`, `k` and `temperature`.
        support: of the divergence.
        k: words kept by the top-k supports.
        temperature: divides all logits before anything else.
        mode: see `aggregate`, as are `num_sequences` and `num_tokens`.
        num_sequences: true N of the batch that this is a part of.
        num_tokens: true token count, for `mode="token_mean"`.
        information: estimator of I, a key of `pgpo_jax.information.ESTIMATORS`.
        information_reduction: of the estimator, see `pgpo_jax.information.entropy_gain`.
        signal_mask: sequences that enter the information; those of `sequence_mask` if omitted.
        reference_hidden: hidden states of the initial model on the teacher's prompt; with
            `reference_head` and `trust_region_rate` the teacher is `trust_region_logits` of both.
        reference_head: the initial model's output projection.
        trust_region_rate: share of the live student in that mixture.
        importance: weight per token, for example from `rollout_correction`; no gradient.
        old_logprobs: log-probabilities at the beginning of the batch, together with `is_clip`.
        is_clip: cap of the importance ratio to `old_logprobs`.
        chunk_size: tokens per chunk; peak memory is a few times `chunk_size * V * 4` bytes.

    Returns:
        A `HeadLoss`.

    Raises:
        ValueError: an undefined divergence or mode, an unknown estimator, or half of a pair of
            arguments that belong together.

    >>> import jax, jax.numpy as jnp, pgpo_jax as pgpo
    >>> a, b, w = (jax.random.normal(jax.random.key(i), s) for i, s in
    ...            enumerate([(2, 3, 4), (2, 3, 4), (4, 9)]))
    >>> tokens, mask = jnp.zeros((2, 3), int), jnp.ones((2, 3))
    >>> out = pgpo.distillation.sdpo_head_loss(a, b, w, w, tokens, mask, k=4)
    >>> bool(out.loss > 0), out.divergence.shape
    (True, (2, 3))
    """
    check_divergence(teacher_weight, support, k, True, temperature)
    check_choice("information", information, tuple(ESTIMATORS))
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1 token, got {chunk_size!r}.")
    trust_region = (reference_hidden, reference_head, trust_region_rate)
    if any(x is None for x in trust_region) and any(x is not None for x in trust_region):
        raise ValueError(
            "reference_hidden, reference_head and trust_region_rate belong together; got "
            f"{[x is not None for x in trust_region]} of them."
        )
    if (old_logprobs is None) != (is_clip is None):
        raise ValueError(
            "old_logprobs and is_clip belong together; got only "
            f"{'is_clip' if old_logprobs is None else 'old_logprobs'}."
        )
    if trust_region_rate is not None:
        check_rate(trust_region_rate)

    response = response_mask.astype(bool)
    layout = chunk_layout(response.shape[0], response.shape[1], chunk_size)
    dtype = at_least_float32(wider(student_hidden.dtype, student_head.dtype))

    def masked(hidden: Array) -> Array:
        # Padding may hold NaN (attention over nothing), which a zero weight would not stop.
        return jnp.where(response[..., None], hidden, jnp.zeros([], hidden.dtype))

    # The loss is linear in the weighted divergences; these are its coefficients.
    coefficients = jax.grad(
        lambda per_token: aggregate(
            per_token,
            response,
            sequence_mask,
            mode=mode,
            num_sequences=num_sequences,
            num_tokens=num_tokens,
        )
    )(jnp.zeros(response.shape, dtype))
    if importance is not None:
        coefficients = coefficients * jnp.where(response, importance, 0.0).astype(dtype)

    fixed: dict[str, Any] = {
        "teacher": masked(teacher_hidden),
        "tokens": jnp.where(response, tokens, 0),
        "coefficients": coefficients,
    }
    if reference_hidden is not None:
        fixed["reference"] = masked(reference_hidden)
    if old_logprobs is not None:
        fixed["old_logprobs"] = jnp.where(response, old_logprobs, 0.0).astype(dtype)
    heads = {"teacher": teacher_head, "reference": reference_head}

    def on_logits(student_logits: Array, chunk: dict, heads: dict) -> tuple[Array, dict]:
        """Weighted loss of a chunk, and its statistics."""
        teacher_logits = head_logits(chunk["teacher"], heads["teacher"])
        if trust_region_rate is not None:
            reference_logits = head_logits(chunk["reference"], heads["reference"])
            teacher_logits = trust_region_logits(
                reference_logits, teacher_logits, trust_region_rate
            )
        student_logits = tempered(student_logits, temperature)
        teacher_logits = jax.lax.stop_gradient(tempered(teacher_logits, temperature))
        per_token = divergence(
            student_logits,
            teacher_logits,
            teacher_weight=teacher_weight,
            support=support,
            k=k,
            tokens=chunk["tokens"],
        )
        frozen = jax.lax.stop_gradient(student_logits)
        student_logprobs = token_log_probs(frozen, chunk["tokens"])
        weights = chunk["coefficients"]
        if is_clip is not None:
            weights = weights * importance_ratio(student_logprobs, chunk["old_logprobs"], is_clip)
        statistics = {
            "divergence": per_token,
            "information": ESTIMATORS[information](frozen, teacher_logits, chunk["tokens"]),
            "student_logprobs": student_logprobs,
            "teacher_logprobs": token_log_probs(teacher_logits, chunk["tokens"]),
            "student_entropy": entropy(log_probs(frozen)),
            "teacher_entropy": entropy(log_probs(teacher_logits)),
        }
        return jnp.sum(weights * per_token), statistics

    @jax.custom_vjp
    def scanned(student_hidden, student_head, fixed, heads):
        def body(total, chunk):
            student_logits = head_logits(chunk["student"], student_head)
            loss, statistics = on_logits(student_logits, chunk, heads)
            return total + loss, statistics

        chunks = jax.tree.map(layout.split, {"student": student_hidden, **fixed})
        return jax.lax.scan(body, jnp.zeros([], dtype), chunks)

    def forward(student_hidden, student_head, fixed, heads):
        wanted = (student_hidden.perturbed, student_head.perturbed)
        student_hidden, student_head = student_hidden.value, student_head.value
        fixed, heads = jax.tree.map(lambda x: x.value, (fixed, heads))

        def body(carry, chunk):
            total, to_head_sum = carry
            student_logits = head_logits(chunk["student"], student_head)
            (loss, statistics), logit_gradient = jax.value_and_grad(on_logits, has_aux=True)(
                student_logits, chunk, heads
            )
            to_hidden, to_head = _head_gradients(logit_gradient, chunk["student"], student_head)
            carry = total + loss, to_head_sum + to_head if wanted[1] else None
            return carry, (statistics, to_hidden if wanted[0] else None)

        start = jnp.zeros(student_head.shape, at_least_float32(student_head.dtype))
        chunks = jax.tree.map(layout.split, {"student": student_hidden, **fixed})
        (total, to_head), (statistics, to_hidden) = jax.lax.scan(
            body, (jnp.zeros([], dtype), start if wanted[1] else None), chunks
        )
        if to_hidden is not None:
            to_hidden = layout.join(to_hidden)
        if to_head is not None:
            to_head = to_head.astype(student_head.dtype)
        return (total, statistics), (to_hidden, to_head)

    def backward(residuals, cotangents):
        cotangent = cotangents[0]
        if isinstance(cotangent, SymbolicZero):
            return None, None, None, None
        scaled = jax.tree.map(lambda g: g * cotangent.astype(g.dtype), residuals)
        return *scaled, None, None

    scanned.defvjp(forward, backward, symbolic_zeros=True)

    loss, statistics = scanned(masked(student_hidden), student_head, fixed, heads)
    statistics = {name: jnp.where(response, layout.join(x), 0.0) for name, x in statistics.items()}
    statistics = jax.lax.stop_gradient(statistics)
    total, count = pooled(
        statistics.pop("information"),
        response,
        sequence_mask if signal_mask is None else signal_mask,
        information_reduction,
    )
    return HeadLoss(loss, mean_of(total, count), total, count, **statistics)
