"""KL(teacher || student): the information gain of Bayesian updating."""

from jaxtyping import Array, Float, Int

from pgpo_jax._categorical import log_probs, mixture_divergence
from pgpo_jax._reduce import Mask, SequenceMask, mean_over
from pgpo_jax._shapes import check_pair


def kl_gain_per_token(
    student_logits: Float[Array, "*batch V"],
    teacher_logits: Float[Array, "*batch V"],
    tokens: Int[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    """KL(q || p) for each row, in nats; never negative."""
    del tokens
    check_pair(student_logits, teacher_logits)
    return mixture_divergence(log_probs(student_logits), log_probs(teacher_logits), 0)


def kl_gain(
    student_logits: Float[Array, "B T V"],
    teacher_logits: Float[Array, "B T V"],
    mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    reduction: str = "sequence_mean",
) -> Float[Array, ""]:
    r"""Mean of KL(teacher || student), in nats.

    $$I = \mathbb{E}_t \sum_y q_t(y) \log\frac{q_t(y)}{p_t(y)}$$

    If the student is the teacher's marginal, the average over feedback is the conditional mutual
    information I(y; f | x). Otherwise KL(marginal || student) is added to it. The signal is never
    negative, for any feedback. A word that is impossible for the student has the smallest normal
    probability here.

    Args:
        student_logits: next-token logits without feedback, any float dtype.
        teacher_logits: logits at the same response tokens, with feedback.
        mask: response tokens (nonzero: counts).
        sequence_mask: sequences with a teacher signal; all of them if omitted.
        reduction: `"sequence_mean"`, `"token_mean"` or `"sequence_sum"`, as in `entropy_gain`.

    Returns:
        The signal in nats, float32 (float64 for float64 logits); 0 if nothing counts.

    Raises:
        ValueError: unknown reduction, or shapes that do not match.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> student, teacher = jnp.zeros((1, 1, 2)), jnp.log(jnp.array([[[0.9, 0.1]]]))
    >>> round(float(pgpo.information.kl_gain(student, teacher, jnp.ones((1, 1)))), 4)
    0.3681
    """
    per_token = kl_gain_per_token(student_logits, teacher_logits)
    return mean_over(per_token, mask, sequence_mask, reduction)
