"""Pointwise information of the sampled tokens, from two log-probabilities per token."""

from jaxtyping import Array, Float, Int

from pgpo_jax._categorical import finite, token_log_probs
from pgpo_jax._reduce import Mask, SequenceMask, mean_over
from pgpo_jax._shapes import check_pair
from pgpo_jax.errors import PGPOValueError


def pointwise_gain_per_token(
    student_logits: Float[Array, "*batch V"],
    teacher_logits: Float[Array, "*batch V"],
    tokens: Int[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    """log q(y) - log p(y) of the sampled token y, in nats; of either sign."""
    if tokens is None:
        raise PGPOValueError("The pointwise estimator needs the sampled `tokens`, got None.")
    check_pair(student_logits, teacher_logits)
    return log_ratio(
        token_log_probs(student_logits, tokens), token_log_probs(teacher_logits, tokens)
    )


def log_ratio(
    student_logprobs: Float[Array, "*batch"], teacher_logprobs: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """log q(y) - log p(y), finite also where either is log 0."""
    check_pair(student_logprobs, teacher_logprobs)
    return finite(teacher_logprobs) - finite(student_logprobs)


def pointwise_gain(
    student_logprobs: Float[Array, "B T"],
    teacher_logprobs: Float[Array, "B T"],
    mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    reduction: str = "sequence_mean",
) -> Float[Array, ""]:
    r"""Mean of log q(y) - log p(y) over the sampled tokens y, in nats.

    Under y ~ q its expectation is KL(teacher || student). Under the student's own samples it is
    -KL(student || teacher), so on-policy rollouts give a *non-positive* signal on average. It
    serves as a cheap estimator, without a pass over the vocabulary, and for ablations.

    Args:
        student_logprobs: log p of the sampled tokens, nats.
        teacher_logprobs: log q of the same tokens, nats.
        mask: response tokens (nonzero: counts).
        sequence_mask: sequences with a teacher signal; all of them if omitted.
        reduction: `"sequence_mean"`, `"token_mean"` or `"sequence_sum"`, as in `entropy_gain`.

    Returns:
        The signal in nats, float32 (float64 for float64 log-probabilities); 0 if nothing counts.

    Raises:
        ValueError: unknown reduction, or shapes that do not match.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> student, teacher = jnp.log(jnp.array([[0.25, 0.5]])), jnp.log(jnp.array([[0.5, 0.5]]))
    >>> round(float(pgpo.information.pointwise_gain(student, teacher, jnp.ones((1, 2)))), 4)
    0.3466
    """
    per_token = log_ratio(student_logprobs, teacher_logprobs)
    return mean_over(per_token, mask, sequence_mask, reduction)
