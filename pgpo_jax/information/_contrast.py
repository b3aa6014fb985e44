"""Whether the teacher raises right answers more than wrong ones, however far it is away."""

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
    r"""Mean pointwise gain of the right responses minus that of the wrong ones, in nats.

    $$I = \mathbb{E}_{i \text{ right}}\big[\log q_{it}(y) - \log p_{it}(y)\big]
        - \mathbb{E}_{i \text{ wrong}}\big[\log q_{it}(y) - \log p_{it}(y)\big]$$

    This is `outcome_gain` with each class divided by its own count. On the student's own samples
    the mean of log q - log p is -KL(p || q), however little the teacher has learnt. The part that
    both classes share cancels here, whatever the counts. So the signal does not change when every
    gain is shifted by the same number (with `"sequence_sum"` only if both classes are equally
    long). It does change if the teacher is further away on one of the classes.

    Compute it on the whole batch: its mean over micro-batches is not the same number.

    Args:
        student_logprobs: log p of the sampled tokens, nats.
        teacher_logprobs: log q of the same tokens, nats.
        success: sequences that were graded right (nonzero: right).
        mask: response tokens (nonzero: counts).
        sequence_mask: sequences with a teacher signal; all of them if omitted.
        reduction: `"sequence_mean"`, `"token_mean"` or `"sequence_sum"`, as in `entropy_gain`,
            within each class.

    Returns:
        The signal in nats, float32 (float64 for float64 log-probabilities). It is 0, so that the
        step keeps its length, if one of the classes is empty. The other class alone separates
        distance from agreement no better than `outcome_gain` does.

    Raises:
        ValueError: unknown reduction, or shapes that do not match.

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
