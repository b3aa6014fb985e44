"""Does the teacher raise what was right more than what was wrong? Blind to its mere distance."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._reduce import Mask, SequenceMask, mean_of, pooled
from pgpo_jax.information._pointwise import log_ratio


def outcome_contrast(
    student_logprobs: Float[Array, "B T"],
    teacher_logprobs: Float[Array, "B T"],
    success: SequenceMask,
    mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    reduction: str = "sequence_mean",
) -> Float[Array, ""]:
    r"""Mean pointwise gain of what was graded right, minus that of what was graded wrong, in nats.

    $$I = \mathbb{E}_{i \text{ right}}\big[\log q_{it}(y) - \log p_{it}(y)\big]
        - \mathbb{E}_{i \text{ wrong}}\big[\log q_{it}(y) - \log p_{it}(y)\big]$$

    `outcome_gain` with each class divided by its own count. On the student's own samples the mean
    of log q - log p is -KL(p || q), however little the teacher has learnt. What both classes have
    of it cancels here, however many there are of each: the signal does not move when every gain is
    shifted by the same number (with `"sequence_sum"` only if both are equally long). It does move
    if the teacher is further away on one of the classes.

    Take it of a whole batch: the difference of two means is not the mean over micro-batches.

    Args:
        student_logprobs: log p of the sampled tokens, nats.
        teacher_logprobs: log q of the same tokens, nats.
        success: sequences that were graded right (nonzero: right).
        mask: response tokens (nonzero: counts).
        sequence_mask: sequences with a teacher signal; all of them if omitted.
        reduction: `"sequence_mean"`, `"token_mean"` or `"sequence_sum"`, as in `entropy_gain`,
            within each class.

    Returns:
        The signal in nats, float32 (float64 for float64 log-probabilities). It is 0, the step
        then keeps its length, if nothing counts in one of the classes: the other one alone tells
        distance from agreement no better than `outcome_gain` does.

    Raises:
        ValueError: unknown reduction.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> student, teacher = jnp.log(jnp.full((2, 1), 0.5)), jnp.log(jnp.array([[0.4], [0.1]]))
    >>> contrast = lambda *s: pgpo.information.outcome_contrast(
    ...     student, teacher, jnp.array(s), jnp.ones((2, 1)))
    >>> round(float(contrast(1, 0)), 4), float(contrast(1, 1))
    (1.3863, 0.0)
    """
    gain = log_ratio(student_logprobs, teacher_logprobs)
    right = success.astype(bool)
    kept = jnp.ones_like(right) if sequence_mask is None else sequence_mask.astype(bool)
    gained, rights = pooled(gain, mask, kept & right, reduction)
    lost, wrongs = pooled(gain, mask, kept & ~right, reduction)
    both = (rights > 0) & (wrongs > 0)
    return jnp.where(both, mean_of(gained, rights) - mean_of(lost, wrongs), 0.0)
