"""Jensen-Shannon divergence of student and teacher: a signal bounded by log 2."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pgpo_jax._categorical import log_probs, mixture_divergence
from pgpo_jax._reduce import Mask, SequenceMask, mean_over
from pgpo_jax._shapes import check_pair


def js_gain_per_token(
    student_logits: Float[Array, "*batch V"],
    teacher_logits: Float[Array, "*batch V"],
    tokens: Int[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    """JS(p, q) for each row, in nats; between 0 and log 2."""
    del tokens
    check_pair(student_logits, teacher_logits)
    value = mixture_divergence(log_probs(student_logits), log_probs(teacher_logits), 0.5)
    # If the two share no word, rounding may carry the sum beyond the bound.
    return jnp.minimum(value, jnp.log(jnp.asarray(2, value.dtype)))


def js_gain(
    student_logits: Float[Array, "B T V"],
    teacher_logits: Float[Array, "B T V"],
    mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    reduction: str = "sequence_mean",
) -> Float[Array, ""]:
    r"""Mean Jensen-Shannon divergence of student and teacher, in nats.

    $$I = \mathbb{E}_t \tfrac12 \mathrm{KL}(p_t \| m_t) + \tfrac12 \mathrm{KL}(q_t \| m_t),\quad
      m_t = \tfrac12 (p_t + q_t)$$

    It is the mutual information of the token and a fair coin that chooses which model draws it. So
    the signal is bounded: it lies in [0, log 2] for any logits.

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
    >>> a, b = jnp.array([[[0.0, -jnp.inf]]]), jnp.array([[[-jnp.inf, 0.0]]])
    >>> round(float(pgpo.information.js_gain(a, b, jnp.ones((1, 1)))), 4)
    0.6931
    """
    per_token = js_gain_per_token(student_logits, teacher_logits)
    return mean_over(per_token, mask, sequence_mask, reduction)
