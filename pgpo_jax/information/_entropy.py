"""Eq. 8 of the paper: the entropy of the next token that the feedback removes."""

from jaxtyping import Array, Float, Int

from pgpo_jax._categorical import entropy, log_probs
from pgpo_jax._reduce import Mask, SequenceMask, mean_over
from pgpo_jax._shapes import check_pair


def entropy_gain_per_token(
    student_logits: Float[Array, "*batch V"],
    teacher_logits: Float[Array, "*batch V"],
    tokens: Int[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    """H(p) - H(q) for each row, in nats; negative where the teacher is less certain."""
    del tokens
    check_pair(student_logits, teacher_logits)
    return entropy(log_probs(student_logits)) - entropy(log_probs(teacher_logits))


def entropy_gain(
    student_logits: Float[Array, "B T V"],
    teacher_logits: Float[Array, "B T V"],
    mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    reduction: str = "sequence_mean",
) -> Float[Array, ""]:
    r"""The paper's information signal (Eq. 8), in nats.

    $$I = \frac{1}{|B|}\sum_{i \in B}
        \big[H(y_i \mid x_i, y_{<t}) - H(y_i \mid x_i, f_i, y_{<t})\big]$$

    If the student is the teacher's marginal, the average over feedback is a conditional mutual
    information. For one particular feedback the signal may be negative.

    Args:
        student_logits: next-token logits without feedback, any float dtype.
        teacher_logits: logits at the same response tokens, with feedback.
        mask: response tokens (nonzero: counts).
        sequence_mask: sequences with a teacher signal; all of them if omitted.
        reduction: `"sequence_mean"` is the mean over sequences of their token means. `"token_mean"`
            is the mean over all tokens. `"sequence_sum"` is the mean over sequences of their token
            sums. Sequences without a valid token do not count.

    Returns:
        The signal in nats, float32 (float64 for float64 logits); 0 if nothing counts.

    Raises:
        ValueError: unknown reduction, or shapes that do not match.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> uniform, certain = jnp.zeros((1, 1, 4)), jnp.array([[[0.0, -jnp.inf, -jnp.inf, -jnp.inf]]])
    >>> round(float(pgpo.information.entropy_gain(uniform, certain, jnp.ones((1, 1)))), 4)
    1.3863
    """
    per_token = entropy_gain_per_token(student_logits, teacher_logits)
    return mean_over(per_token, mask, sequence_mask, reduction)
