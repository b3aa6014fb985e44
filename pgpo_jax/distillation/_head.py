"""SDPO's loss and PGPO's signal straight from hidden states, a chunk of tokens at a time.

The loss is linear in the per-token divergences, with weights that are known beforehand (for the
modulation by a whole sequence: after one more pass without a gradient).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, ScalarLike

from pgpo_jax._categorical import entropy, log_probs, token_log_probs
from pgpo_jax._multiplier import multiplier
from pgpo_jax._precision import at_least_float32, wider
from pgpo_jax._reduce import Mask, SequenceMask, check_choice, mean_of, pooled
from pgpo_jax.distillation._aggregate import token_coefficients
from pgpo_jax.distillation._chunked import chunked_loss, head_logits
from pgpo_jax.distillation._chunks import chunk_layout
from pgpo_jax.distillation._divergence import check_divergence, divergence, tempered
from pgpo_jax.distillation._head_sharding import HeadSharding
from pgpo_jax.distillation._importance import importance_ratio
from pgpo_jax.distillation._modulation import check_modulation, modulation_weights
from pgpo_jax.distillation._teacher import check_rate, trust_region_logits
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.information import ESTIMATORS, SIGNALS
from pgpo_jax.information._outcome import outcome_sign


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
        gain: what the information is the mean of, nats.
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
    gain: Float[Array, "B T"]


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
    reduction: str = "sequence_mean",
    num_sequences: ScalarLike | None = None,
    num_tokens: ScalarLike | None = None,
    estimator: str = "entropy",
    signal_reduction: str = "sequence_mean",
    signal_mask: SequenceMask | None = None,
    success: SequenceMask | None = None,
    modulation: str = "none",
    alpha: ScalarLike = 1.0,
    rho_max: ScalarLike = 2.0,
    rho_min: ScalarLike = 0.0,
    reference_hidden: Float[Array, "B T Dr"] | None = None,
    reference_head: Float[Array, "Dr V"] | None = None,
    trust_region_rate: float | int | None = None,
    importance: Float[Array, "B T"] | None = None,
    sampler_logprobs: Float[Array, "B T"] | None = None,
    rollout_clip: float | int | None = None,
    chunk_size: int = 512,
    sharding: HeadSharding | None = None,
) -> HeadLoss:
    r"""Loss, information signal and token statistics in one pass over the vocabulary.

    Equal to `aggregate(weights * divergence(h @ W, ...), ...)` and the estimator of
    `pgpo_jax.information` on the same logits: the functions called on a chunk are those. The
    gradient with respect to `student_hidden` and `student_head` is exact; there is none to the
    teacher, the reference, or through any output but `loss`. First derivatives, reverse mode only.

    On a mesh `sharding` cuts the products with the heads over the vocabulary, so that no device
    holds a whole head. Without it the top-k supports expect the vocabulary over axes called
    `tensor`, `model` or `tp` and the tokens over all others; each shard of the vocabulary then
    sends its k candidates only. Other layouts give the same numbers and move more between devices.

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
        reduction: see `aggregate`, as are `num_sequences` and `num_tokens`.
        num_sequences: true N of the batch that this is a part of.
        num_tokens: true token count, for `reduction="token_mean"`.
        estimator: of I, one of `pgpo_jax.information.SIGNALS`.
        signal_reduction: of the per-token signal, see `pgpo_jax.information.entropy_gain`.
        signal_mask: sequences that enter the information; those of `sequence_mask` if omitted.
        success: whether each sequence was graded right (nonzero: it was); `estimator="outcome"`
            needs it.
        modulation: `"token"` or `"sequence"` weighs the divergences by `modulation_weights`, the
            latter at the price of one more product with each head and no gradient of them.
        alpha: of that modulation, as are `rho_max` and `rho_min`.
        rho_max: largest weight.
        rho_min: smallest weight.
        reference_hidden: hidden states of the initial model on the teacher's prompt; with
            `reference_head` and `trust_region_rate` the teacher is `trust_region_logits` of both.
        reference_head: the initial model's output projection.
        trust_region_rate: share of the live student in that mixture.
        importance: weight per token, for example from `rollout_correction`; no gradient.
        sampler_logprobs: log-probabilities of `tokens` that the sampler recorded, nats; together
            with `rollout_clip`.
        rollout_clip: cap of the importance ratio to `sampler_logprobs`.
        chunk_size: tokens per chunk; peak memory is a few times `chunk_size * V * 4` bytes, over
            all devices.
        sharding: of the products with the heads, on a mesh.

    Returns:
        A `HeadLoss`.

    Raises:
        ValueError: an undefined divergence, reduction or modulation, an unknown estimator, a chunk
            without a token, half of a pair of arguments that belong together, or a vocabulary
            that does not divide over the mesh.

    >>> import jax, jax.numpy as jnp, pgpo_jax as pgpo
    >>> a, b, w = (jax.random.normal(jax.random.key(i), s) for i, s in
    ...            enumerate([(2, 3, 4), (2, 3, 4), (4, 9)]))
    >>> tokens, mask = jnp.zeros((2, 3), int), jnp.ones((2, 3))
    >>> out = pgpo.distillation.sdpo_head_loss(a, b, w, w, tokens, mask, k=4)
    >>> bool(out.loss > 0), out.divergence.shape
    (True, (2, 3))
    """
    check_divergence(teacher_weight, support, k, True, temperature)
    check_choice("estimator", estimator, SIGNALS)
    check_modulation(modulation, alpha, rho_max, rho_min)
    if (success is None) is (estimator == "outcome"):
        raise PGPOValueError(
            "estimator='outcome' and success belong together; got "
            f"{estimator!r} {'without' if success is None else 'with'} success."
        )
    trust_region = (reference_hidden, reference_head, trust_region_rate)
    if any(x is None for x in trust_region) and any(x is not None for x in trust_region):
        raise PGPOValueError(
            "reference_hidden, reference_head and trust_region_rate belong together; got "
            f"{[x is not None for x in trust_region]} of them."
        )
    if (sampler_logprobs is None) != (rollout_clip is None):
        raise PGPOValueError(
            "sampler_logprobs and rollout_clip belong together; got only "
            f"{'rollout_clip' if sampler_logprobs is None else 'sampler_logprobs'}."
        )
    if trust_region_rate is not None:
        check_rate(trust_region_rate)

    if sharding is not None:
        sharding.check(student_head.shape[1])
        student_head, teacher_head = sharding.head(student_head), sharding.head(teacher_head)
        reference_head = None if reference_head is None else sharding.head(reference_head)
    response = response_mask.astype(bool)
    layout = chunk_layout(response.shape[0], response.shape[1], chunk_size)
    dtype = at_least_float32(wider(student_hidden.dtype, student_head.dtype))

    def masked(hidden: Array) -> Array:
        # Padding may hold NaN (attention over nothing), which a zero weight would not stop.
        return jnp.where(response[..., None], hidden, jnp.zeros([], hidden.dtype))

    coefficients = token_coefficients(
        response,
        sequence_mask,
        dtype,
        reduction=reduction,
        num_sequences=num_sequences,
        num_tokens=num_tokens,
    )
    if importance is not None:
        coefficients = coefficients * jnp.where(response, importance, 0.0).astype(dtype)

    fixed: dict[str, Any] = {
        "teacher": masked(teacher_hidden),
        "tokens": jnp.where(response, tokens, 0),
        "coefficients": coefficients,
    }
    if success is not None:
        fixed["sign"] = jnp.broadcast_to(outcome_sign(success, dtype)[:, None], response.shape)
    if reference_hidden is not None:
        fixed["reference"] = masked(reference_hidden)
    if sampler_logprobs is not None:
        fixed["sampler"] = jnp.where(response, sampler_logprobs, 0.0).astype(dtype)
    heads = {"teacher": teacher_head, "reference": reference_head}

    def on_logits(student_logits: Array, chunk: dict, heads: dict) -> tuple[Array, dict]:
        """Weighted loss of a chunk, and its statistics."""
        teacher_logits = head_logits(chunk["teacher"], heads["teacher"], sharding)
        if trust_region_rate is not None:
            reference_logits = head_logits(chunk["reference"], heads["reference"], sharding)
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
            sharding=sharding,
        )
        frozen = jax.lax.stop_gradient(student_logits)
        student_logprobs = token_log_probs(frozen, chunk["tokens"])
        weights = chunk["coefficients"]
        if rollout_clip is not None:
            weights = weights * importance_ratio(student_logprobs, chunk["sampler"], rollout_clip)
        gain = ESTIMATORS["pointwise" if estimator == "outcome" else estimator](
            frozen, teacher_logits, chunk["tokens"]
        )
        if success is not None:
            gain = gain * chunk["sign"]
        if modulation == "token":
            weights = weights * multiplier(gain, alpha, rho_max, rho_min)
        statistics = {
            "divergence": per_token,
            "gain": gain,
            "student_logprobs": student_logprobs,
            "teacher_logprobs": token_log_probs(teacher_logits, chunk["tokens"]),
            "student_entropy": entropy(log_probs(frozen)),
            "teacher_entropy": entropy(log_probs(teacher_logits)),
        }
        return jnp.sum(weights * per_token), statistics

    scanned = chunked_loss(on_logits, layout, dtype, sharding)
    if modulation == "sequence":
        frozen = jax.lax.stop_gradient((masked(student_hidden), student_head))
        gain = layout.join(scanned(*frozen, fixed, heads)[1]["gain"])
        fixed["coefficients"] = coefficients * modulation_weights(
            gain, response, level="sequence", alpha=alpha, rho_max=rho_max, rho_min=rho_min
        )
    loss, statistics = scanned(masked(student_hidden), student_head, fixed, heads)
    statistics = {name: jnp.where(response, layout.join(x), 0.0) for name, x in statistics.items()}
    statistics = jax.lax.stop_gradient(statistics)
    total, count = pooled(
        statistics["gain"],
        response,
        sequence_mask if signal_mask is None else signal_mask,
        signal_reduction,
    )
    return HeadLoss(loss, mean_of(total, count), total, count, **statistics)
