"""A loss on the logits of student and teacher, computed from hidden states by chunks of tokens.

The loss is linear in the losses per token, with weights that are known beforehand. Weights that
need a whole sequence take one more pass, without a gradient.
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
    """A loss per token from student logits, teacher logits and numbers of the chunk's tokens.

    The logits are divided by the temperature. A gradient flows to the student's only. The numbers
    are `tokens` and those of `per_token` of `taught_head_loss`.

    Added in version 0.2.0.
    """

    def __call__(
        self, student: Array, teacher: Array, chunk: dict[str, Array], /
    ) -> Float[Array, "rows length"]:
        """The loss of each token of a chunk, nats."""
        ...


@runtime_checkable
class TokenWeight(Protocol):
    """A weight per token from numbers of the chunk's tokens and the teacher's entropies in nats.

    The numbers are those of `per_token` of `taught_head_loss`.
    """

    def __call__(
        self, chunk: dict[str, Array], teacher_entropy: Array, /
    ) -> Float[Array, "rows length"]:
        """The weight of each token of a chunk."""
        ...


class HeadLoss(NamedTuple):
    """Results of one pass over the vocabulary. Only `loss` has a gradient.

    Attributes:
        loss: loss to minimise.
        information: information I_k of the batch, nats.
        information_sum: numerator of `information`, to be added over micro-batches.
        information_count: denominator of `information`, to be added too; 0 if nothing counts.
        divergence: loss per token before importance weights, nats. For SDPO it is the divergence.
            It is 0 off the response, like all further fields.
        student_logprobs: log-probability of the sampled tokens at the temperature, nats.
        teacher_logprobs: the teacher's.
        student_entropy: entropy of the student's next-token distribution, nats.
        teacher_entropy: the teacher's.
        gain: signal per token, whose mean is the information, nats.
        overlap_ratio: ratio of `Overlap`; `None` unless `overlap_k` is given.
        overlap_advantage: advantage of `Overlap`, nats; `None` unless `overlap_k` is given.
        numbers: numbers per token that an objective keeps for its metrics; `None`: none.
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
    numbers: dict[str, Float[Array, "B T"]] | None = None


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

    This is `sdpo_head_loss` with `token_loss` instead of a divergence. `token_loss` gets the logits
    of one chunk of tokens at a time, and its gradient is computed while they exist.

    Args:
        token_loss: the loss of each token of a chunk; see `TokenLoss`.
        student_hidden: hidden states of the student, see `sdpo_head_loss`.
        teacher_hidden: hidden states of the teacher, on its own prompt.
        student_head: output projection.
        teacher_head: the teacher's.
        tokens: sampled response tokens.
        response_mask: tokens that count for the loss, its weights and the information.
        sequence_mask: sequences that count for the loss; all of them if omitted.
        per_token: further numbers of each token for `token_loss` and `token_weight`. They are set
            to 0 off the mask and are not differentiated.
        temperature: divides all logits first.
        reduction: the reduction of `aggregate`.
        num_sequences: N of the whole batch, if this is a micro-batch of it.
        num_tokens: tokens of the whole batch, for `reduction="token_mean"`.
        estimator: estimator of I.
        signal_reduction: reduction of the signal per token.
        signal_mask: sequences that count for the information.
        success: whether each sequence was graded right.
        modulation: level at which `modulation_weights` weight the losses.
        alpha: sensitivity of that modulation, per nat.
        rho_max: largest weight, >= 1.
        rho_min: smallest weight, in [0, 1].
        reference_hidden: hidden states of a third model, such as the initial model on the teacher's
            prompt. Without `trust_region_rate` `token_loss` finds its logits as
            `reference_logits` among the numbers of the chunk.
        reference_head: output projection of the third model.
        trust_region_rate: share of the live student in the mixture of both, in [0, 1].
        importance: weight per token; no gradient.
        token_weight: a further weight that is computed from the teacher's entropy; see
            `TokenWeight`. It has no gradient and does not enter the denominators or the
            information.
        sampler_logprobs: log-probabilities that the sampler recorded, nats.
        rollout_clip: cap of the importance ratio to them.
        rollout_level: `"token"`: each token has its own ratio. `"sequence"`: all tokens have that
            of `sequence_ratio`, which costs one more product with each head.
        overlap_k: number of most likely words whose `overlap` is also measured.
        chunk_size: tokens per chunk.
        sharding: how the products with the heads are cut over a mesh.

    Returns:
        A `HeadLoss`, whose `divergence` holds the values of `token_loss`.

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
    reference = (reference_hidden is not None, reference_head is not None)
    if reference[0] != reference[1] or (trust_region_rate is not None and not reference[0]):
        raise PGPOValueError(
            "reference_hidden and reference_head belong together, and trust_region_rate needs "
            f"both; got {reference} of them and trust_region_rate={trust_region_rate}."
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
        # Padding may hold NaN, from attention over no keys. A zero weight would not remove it.
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
        elif reference_hidden is not None:
            third = head_logits(chunk["reference"], heads["reference"], sharding)
            third = jax.lax.stop_gradient(tempered(third, temperature))
            chunk = chunk | {"reference_logits": third}
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
    return HeadLoss(loss, mean_of(total, count), total, count, numbers=None, **statistics)
