"""A signal of whether the teacher agrees with the grader, not only of how certain it is."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._reduce import Mask, SequenceMask, mean_over
from pgpo_jax.information._pointwise import log_ratio


def outcome_sign(success: SequenceMask, dtype: jnp.dtype) -> Float[Array, " B"]:
    """+1 for a sequence that was graded right, -1 for one that was not."""
    return jnp.where(success.astype(bool), 1.0, -1.0).astype(dtype)


def outcome_gain(
    student_logprobs: Float[Array, "B T"],
    teacher_logprobs: Float[Array, "B T"],
    success: SequenceMask,
    mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    reduction: str = "sequence_mean",
) -> Float[Array, ""]:
    r"""How far the teacher raises right responses and lowers wrong ones, in nats.

    $$I = \mathbb{E}\big[s_i\,(\log q_{it}(y) - \log p_{it}(y))\big],\qquad
      s_i = +1 \text{ if sequence } i \text{ was graded right, else } -1$$

    This is `pointwise_gain` with the grader's sign. It is positive where teacher and grader agree,
    and negative where the teacher is misled. It does not see *why* the teacher lowers a
    probability. Under the student's own samples the mean of log q - log p is -KL(p || q), whatever
    the teacher has learnt. So any teacher that differs from the student scores above zero on wrong
    responses and below zero on right ones. This cancels if both are equally many.

    Args:
        student_logprobs: log p of the sampled tokens, nats.
        teacher_logprobs: log q of the same tokens, nats.
        success: sequences that were graded right (nonzero: right).
        mask: response tokens (nonzero: counts).
        sequence_mask: sequences with a teacher signal; all of them if omitted.
        reduction: `"sequence_mean"`, `"token_mean"` or `"sequence_sum"`, as in `entropy_gain`.

    Returns:
        The signal in nats, float32 (float64 for float64 log-probabilities); 0 if nothing counts.

    Raises:
        ValueError: unknown reduction, or shapes that do not match.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> student, teacher = jnp.log(jnp.full((2, 1), 0.5)), jnp.log(jnp.array([[0.8], [0.2]]))
    >>> agreeing, misled = jnp.array([1, 0]), jnp.array([0, 1])
    >>> gain = lambda s: pgpo.information.outcome_gain(student, teacher, s, jnp.ones((2, 1)))
    >>> round(float(gain(agreeing)), 4), round(float(gain(misled)), 4)
    (0.6931, -0.6931)
    """
    per_token = log_ratio(student_logprobs, teacher_logprobs)
    signed = outcome_sign(success, per_token.dtype)[:, None] * per_token
    return mean_over(signed, mask, sequence_mask, reduction)
