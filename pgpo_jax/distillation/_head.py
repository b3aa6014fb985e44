"""SDPO's loss and PGPO's signal, computed from hidden states."""

from jaxtyping import Array, Float, Int, ScalarLike

from pgpo_jax._reduce import Mask, SequenceMask
from pgpo_jax.distillation._divergence import check_divergence, divergence
from pgpo_jax.distillation._head_sharding import HeadSharding
from pgpo_jax.distillation._taught_head import HeadLoss, taught_head_loss
from pgpo_jax.errors import PGPOValueError


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
    entry_clip: float | int | None = None,
    rollout_level: str = "token",
    chunk_size: int = 512,
    sharding: HeadSharding | None = None,
) -> HeadLoss:
    r"""Loss, information signal and token statistics in one pass over the vocabulary.

    The result equals `aggregate(weights * divergence(h @ W, ...), ...)` and the estimator of
    `pgpo_jax.information` on the same logits, because each chunk calls these functions. The
    gradient with respect to `student_hidden` and `student_head` is exact. Only `loss` has a
    gradient; the teacher and the reference have none. First derivatives in reverse mode are
    supported, no others.

    On a mesh `sharding` cuts the products with the heads over the vocabulary, so that no device
    holds a whole head. Without it the top-k supports expect the vocabulary on axes called `tensor`,
    `model` or `tp` and the tokens on all others. Each shard of the vocabulary then sends its k
    candidates only. Other layouts give the same numbers but move more data between devices.

    Args:
        student_hidden: final hidden states at the positions that predict `tokens`.
        teacher_hidden: hidden states of the teacher on its own prompt. With `trust_region_rate`
            these are hidden states of the live student on the teacher's prompt.
        student_head: output projection, `logits = hidden @ head`.
        teacher_head: output projection of the teacher.
        tokens: sampled response tokens.
        response_mask: response tokens (nonzero: counts). Values off the mask are ignored.
        sequence_mask: sequences with a teacher signal; all of them if omitted.
        teacher_weight: weight w of `divergence`.
        support: support of the divergence.
        k: words kept by the top-k supports.
        temperature: divides all logits first.
        reduction: the reduction of `aggregate`.
        num_sequences: N of the whole batch, if this is a micro-batch of it.
        num_tokens: tokens of the whole batch, for `reduction="token_mean"`.
        estimator: estimator of I, one of `pgpo_jax.information.SIGNALS`.
        signal_reduction: reduction of the signal, see `pgpo_jax.information.entropy_gain`.
        signal_mask: sequences that count for the information; those of `sequence_mask` if omitted.
        success: whether each sequence was graded right (nonzero: right). `estimator="outcome"`
            needs it.
        modulation: `"token"` or `"sequence"` weights the divergences by `modulation_weights`.
            `"sequence"` costs one more product with each head, without gradients.
        alpha: sensitivity of the modulation, per nat.
        rho_max: largest weight, >= 1.
        rho_min: smallest weight, in [0, 1].
        reference_hidden: hidden states of the initial model on the teacher's prompt. With
            `reference_head` and `trust_region_rate` the teacher is `trust_region_logits` of both
            models.
        reference_head: output projection of the initial model.
        trust_region_rate: share of the live student in that mixture, in [0, 1].
        importance: weight per token, for example from `rollout_correction`; no gradient.
        sampler_logprobs: log-probabilities of `tokens` that the sampler recorded, in nats. They are
            given together with `rollout_clip`.
        rollout_clip: cap of the importance ratio to `sampler_logprobs`.
        entry_clip: see `divergence`.
        rollout_level: `"token"`: each token has its own ratio. `"sequence"`: all tokens have that
            of `sequence_ratio`, which costs one more product with each head.
        chunk_size: tokens per chunk. Peak memory is a few times `chunk_size * V * 4` bytes, over
            all devices.
        sharding: how the products with the heads are cut over a mesh.

    Returns:
        A `HeadLoss`.

    Raises:
        ValueError: the divergence, reduction or modulation is undefined, the estimator is unknown,
            or a chunk has no token. Or one of two arguments that belong together is missing, or the
            vocabulary does not divide over the mesh.

    >>> import jax, jax.numpy as jnp, pgpo_jax as pgpo
    >>> a, b, w = (jax.random.normal(jax.random.key(i), s) for i, s in
    ...            enumerate([(2, 3, 4), (2, 3, 4), (4, 9)]))
    >>> tokens, mask = jnp.zeros((2, 3), int), jnp.ones((2, 3))
    >>> out = pgpo.distillation.sdpo_head_loss(a, b, w, w, tokens, mask, k=4)
    >>> bool(out.loss > 0), out.divergence.shape
    (True, (2, 3))
    """
    check_divergence(teacher_weight, support, k, True, temperature, entry_clip)
    if trust_region_rate is None and reference_hidden is not None:
        raise PGPOValueError(
            "reference_hidden and trust_region_rate belong together; got reference_hidden alone, "
            "which no divergence reads."
        )

    def token_loss(student_logits: Array, teacher_logits: Array, chunk: dict) -> Array:
        return divergence(
            student_logits,
            teacher_logits,
            teacher_weight=teacher_weight,
            support=support,
            k=k,
            tokens=chunk["tokens"],
            entry_clip=entry_clip,
            sharding=sharding,
        )

    return taught_head_loss(
        token_loss,
        student_hidden,
        teacher_hidden,
        student_head,
        teacher_head,
        tokens,
        response_mask,
        sequence_mask,
        temperature=temperature,
        reduction=reduction,
        num_sequences=num_sequences,
        num_tokens=num_tokens,
        estimator=estimator,
        signal_reduction=signal_reduction,
        signal_mask=signal_mask,
        success=success,
        modulation=modulation,
        alpha=alpha,
        rho_max=rho_max,
        rho_min=rho_min,
        reference_hidden=reference_hidden,
        reference_head=reference_head,
        trust_region_rate=trust_region_rate,
        importance=importance,
        sampler_logprobs=sampler_logprobs,
        rollout_clip=rollout_clip,
        rollout_level=rollout_level,
        chunk_size=chunk_size,
        sharding=sharding,
    )
