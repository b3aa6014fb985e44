"""A loss on the logits of student and teacher, straight from hidden states, by chunks of tokens.

The loss is linear in the per-token losses, with weights that are known beforehand (where they need
a whole sequence: after one more pass without a gradient).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

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
from pgpo_jax.distillation._divergence import check_temperature, tempered
from pgpo_jax.distillation._head_sharding import HeadSharding
from pgpo_jax.distillation._importance import importance_ratio, sequence_ratio
from pgpo_jax.distillation._modulation import check_modulation, modulation_weights
from pgpo_jax.distillation._overlap import overlap
from pgpo_jax.distillation._teacher import check_rate, trust_region_logits
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.information import ESTIMATORS, SIGNALS
from pgpo_jax.information._outcome import outcome_sign


@runtime_checkable
class TokenLoss(Protocol):
    """(student logits, teacher logits, numbers of the chunk's tokens) -> a loss per token.

    The logits are over the temperature; a gradient flows to the student's alone. Among the numbers
    are `tokens`, and what `per_token` of `taught_head_loss` names.

    Added in version 0.2.0.
    """

    def __call__(
        self, student: Array, teacher: Array, chunk: dict[str, Array], /
    ) -> Float[Array, "rows length"]:
        """The loss of each token of a chunk, nats."""
        ...


@runtime_checkable
class TokenWeight(Protocol):
    """(numbers of the chunk's tokens, the teacher's entropy at each, nats) -> a weight per token.

    Among the numbers is what `per_token` of `taught_head_loss` names.
    """

    def __call__(
        self, chunk: dict[str, Array], teacher_entropy: Array, /
    ) -> Float[Array, "rows length"]:
        """The weight of each token of a chunk."""
        ...


class HeadLoss(NamedTuple):
    """What one pass over the vocabulary yields. Only `loss` carries a gradient.

    Attributes:
        loss: to be minimised.
        information: I_k, nats.
        information_sum: `information` before its division; add it up over micro-batches,
        information_count: and divide by the sum of this (0 if nothing counts).
        divergence: per-token loss before importance weights, nats: for SDPO the divergence; 0 off
            the response, as all that follow.
        student_logprobs: of the sampled tokens at the temperature, nats.
        teacher_logprobs: the teacher's.
        student_entropy: of the next-token distribution, nats.
        teacher_entropy: the teacher's.
        gain: what the information is the mean of, nats.
        overlap_ratio: see `Overlap`, as is the next; `None` unless `overlap_k` is given.
        overlap_advantage: of the words in common, nats.
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
    overlap_ratio: Float[Array, "B T"] | None = None
    overlap_advantage: Float[Array, "B T"] | None = None


def taught_head_loss(
    token_loss: TokenLoss,
    student_hidden: Float[Array, "B T D"],
    teacher_hidden: Float[Array, "B T Dt"],
    student_head: Float[Array, "D V"],
    teacher_head: Float[Array, "Dt V"],
    tokens: Int[Array, "B T"],
    response_mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    per_token: Mapping[str, Float[Array, "B T"]] | None = None,
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
    token_weight: TokenWeight | None = None,
    sampler_logprobs: Float[Array, "B T"] | None = None,
    rollout_clip: float | int | None = None,
    rollout_level: str = "token",
    overlap_k: int | None = None,
    chunk_size: int = 512,
    sharding: HeadSharding | None = None,
) -> HeadLoss:
    """Any loss per token of student and teacher, the information and the token statistics.

    What `sdpo_head_loss` does with a divergence, with `token_loss` in its place: that function
    sees the logits of one chunk of tokens at a time, and its gradient is taken while they exist.

    Args:
        token_loss: the loss of each token of a chunk; see `TokenLoss`.
        student_hidden: see `sdpo_head_loss`, as all that is not listed here.
        teacher_hidden: of the teacher, on its own prompt.
        student_head: output projection.
        teacher_head: the teacher's.
        tokens: sampled response tokens.
        response_mask: tokens of the loss, of its weights and of the information.
        sequence_mask: sequences that enter the loss; all of them if omitted.
        per_token: further numbers of each token for `token_loss` and `token_weight`; 0 is put off
            the mask, and nothing is differentiated.
        temperature: divides all logits before anything else.
        reduction: see `aggregate`, as are `num_sequences` and `num_tokens`.
        num_sequences: true N of the batch that this is a part of.
        num_tokens: true token count, for `reduction="token_mean"`.
        estimator: of I.
        signal_reduction: of the per-token signal.
        signal_mask: sequences that enter the information.
        success: whether each sequence was graded right.
        modulation: weighs the losses by `modulation_weights`.
        alpha: of that modulation, as are `rho_max` and `rho_min`.
        rho_max: largest weight.
        rho_min: smallest weight.
        reference_hidden: hidden states of the initial model on the teacher's prompt.
        reference_head: the initial model's output projection.
        trust_region_rate: share of the live student in the mixture of both.
        importance: weight per token; no gradient.
        token_weight: a further weight, made where the teacher's logits are; see `TokenWeight`. It
            has no gradient and no part in the denominators and in the information.
        sampler_logprobs: log-probabilities that the sampler recorded, nats.
        rollout_clip: cap of the importance ratio to them.
        rollout_level: `"token"`: each token has its own ratio; `"sequence"`: that of
            `sequence_ratio`, at the price of one more product with each head.
        overlap_k: measure the `overlap` of so many most likely words, too.
        chunk_size: tokens per chunk.
        sharding: of the products with the heads, on a mesh.

    Returns:
        A `HeadLoss`, whose `divergence` is what `token_loss` gave.

    Raises:
        ValueError: see `sdpo_head_loss`; an unknown `rollout_level`.

    >>> import jax, jax.numpy as jnp, pgpo_jax as pgpo
    >>> def twice(student, teacher, chunk):
    ...     return 2 * pgpo.distillation.divergence(student, teacher, support="full")
    >>> a, b, w = (jax.random.normal(jax.random.key(i), s) for i, s in
    ...            enumerate([(2, 3, 4), (2, 3, 4), (4, 9)]))
    >>> rest = (a, b, w, w, jnp.zeros((2, 3), int), jnp.ones((2, 3)))
    >>> ours = pgpo.distillation.taught_head_loss(twice, *rest).loss
    >>> theirs = pgpo.distillation.sdpo_head_loss(*rest, support="full").loss
    >>> bool(jnp.allclose(ours, 2 * theirs))
    True

    Added in version 0.2.0.
    """
    check_temperature(temperature)
    check_choice("rollout_level", rollout_level, ("token", "sequence"))
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
    for name, values in (per_token or {}).items():
        fixed[name] = jax.lax.stop_gradient(jnp.where(response, values, 0.0).astype(dtype))
    heads = {"teacher": teacher_head, "reference": reference_head}
    by_sequence = rollout_clip is not None and rollout_level == "sequence"

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
        losses = token_loss(student_logits, teacher_logits, chunk)
        frozen = jax.lax.stop_gradient(student_logits)
        student_logprobs = token_log_probs(frozen, chunk["tokens"])
        teacher_entropy = entropy(log_probs(teacher_logits))
        weights = chunk["coefficients"]
        if token_weight is not None:
            weights = weights * jax.lax.stop_gradient(token_weight(chunk, teacher_entropy))
        if rollout_clip is not None and not by_sequence:
            weights = weights * importance_ratio(student_logprobs, chunk["sampler"], rollout_clip)
        gain = ESTIMATORS["pointwise" if estimator == "outcome" else estimator](
            frozen, teacher_logits, chunk["tokens"]
        )
        if success is not None:
            gain = gain * chunk["sign"]
        if modulation == "token":
            weights = weights * multiplier(gain, alpha, rho_max, rho_min)
        statistics = {
            "divergence": losses,
            "gain": gain,
            "student_logprobs": student_logprobs,
            "teacher_logprobs": token_log_probs(teacher_logits, chunk["tokens"]),
            "student_entropy": entropy(log_probs(frozen)),
            "teacher_entropy": teacher_entropy,
        }
        if overlap_k is not None:
            found = overlap(frozen, teacher_logits, overlap_k, sharding)
            statistics |= {"overlap_ratio": found.ratio, "overlap_advantage": found.advantage}
        return jnp.sum(weights * losses), statistics

    scanned = chunked_loss(on_logits, layout, dtype, sharding)
    if modulation == "sequence" or by_sequence:
        frozen = jax.lax.stop_gradient((masked(student_hidden), student_head))
        first = scanned(*frozen, fixed, heads)[1]
        if modulation == "sequence":
            gain = layout.join(first["gain"])
            coefficients = coefficients * modulation_weights(
                gain, response, level="sequence", alpha=alpha, rho_max=rho_max, rho_min=rho_min
            )
        if sampler_logprobs is not None and rollout_clip is not None and by_sequence:
            logprobs = layout.join(first["student_logprobs"])
            coefficients = coefficients * sequence_ratio(
                logprobs, sampler_logprobs, response, rollout_clip
            ).astype(dtype)
        fixed["coefficients"] = coefficients
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
