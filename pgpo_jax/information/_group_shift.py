"""How far a context moves the belief in the answers that were sampled, question by question."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pgpo_jax._multiplier import check_number

# Next to a whole number: .2 * 5 is a little above 1 in float32.
_ROUNDING = 1e-4


def group_belief_shift(
    without: Float[Array, " N"],
    within: Float[Array, " N"],
    question: Int[Array, " N"],
    counted: Bool[Array, " N"],
) -> Float[Array, " N"]:
    r"""`belief_shift` of each question, over the answers that were sampled.

    The belief in an answer is its probability over the sum of those of all counted answers to its
    question. So no further pass is needed, and an answer that nobody sampled has no part.

    Args:
        without: log-probabilities of whole answers without the context, nats.
        within: the same with the context.
        question: which question each answers; any whole numbers.
        counted: one of each set of equal answers, and only those that are to count.

    Returns:
        B of the question of each answer, nats, in [0, log 2]; 0 where a question has fewer than two
        counted answers. No gradient.

    References:
        After InFlow, arXiv 2609.36695; see `belief_shift`.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> without = jnp.log(jnp.array([0.2, 0.2, 0.5]))
    >>> within = jnp.log(jnp.array([0.3, 0.1, 0.5]))
    >>> shift = pgpo.information.group_belief_shift(
    ...     without, within, jnp.array([7, 7, 8]), jnp.ones(3, bool))
    >>> whole = pgpo.information.belief_shift(without[:2], within[:2])
    >>> bool(jnp.allclose(shift, jnp.array([whole, whole, 0.0]), atol=1e-6))
    True

    Added in version 0.2.0.
    """
    without, within = jax.lax.stop_gradient((without, within))
    together = (question[:, None] == question) & counted

    def belief(scores: Array) -> Array:
        total = jax.nn.logsumexp(jnp.where(together, scores, -jnp.inf), axis=1)
        return jnp.where(counted, scores - jnp.where(counted, total, 0.0), -jnp.inf)

    one, other = belief(without), belief(within)
    middle = jnp.logaddexp(one, other) - jnp.log(2.0).astype(one.dtype)

    def part(belief: Array) -> Array:
        there = belief > -jnp.inf
        return jnp.where(there, jnp.exp(belief) * (belief - jnp.where(there, middle, 0.0)), 0.0)

    each = 0.5 * (part(one) + part(other))
    return jnp.maximum(jnp.sum(jnp.where(together, each, 0.0), axis=1), 0.0)


def largest_share_of_groups(
    scores: Float[Array, " N"],
    group: Int[Array, " N"],
    counted: Bool[Array, " N"],
    share: float | int = 0.2,
) -> Bool[Array, " N"]:
    """The members of the groups with the largest scores; `largest_share` of groups.

    The number of groups is that of the arrays' contents, so that one compiled program serves any.

    Args:
        scores: of the group of each member, the same for all of a group.
        group: which group each belongs to; ties go to the smaller number.
        counted: the members that are there; a group without one is none.
        share: of the groups, in (0, 1]; rounded up to whole ones.

    Returns:
        Whether the group of each counted member is chosen.

    Raises:
        ValueError: a share outside its range.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> scores, group = jnp.array([0.1, 0.1, 0.5, 0.3]), jnp.array([0, 0, 1, 2])
    >>> pgpo.information.largest_share_of_groups(scores, group, jnp.ones(4, bool), 0.5).tolist()
    [False, False, True, True]

    Added in version 0.2.0.
    """
    check_number("share", share, "a number in (0, 1]", lambda x: (x > 0) & (x <= 1))
    place = jnp.arange(scores.shape[0], dtype=jnp.int32)
    same = group[:, None] == group
    # One member stands for its group: the first that is there.
    stands = counted & ~jnp.any(same & counted & (place < place[:, None]), axis=1)
    larger = (scores > scores[:, None]) | ((scores == scores[:, None]) & (group < group[:, None]))
    rank = jnp.sum(larger & stands, axis=1, dtype=jnp.int32)
    count = jnp.ceil(share * stands.sum(dtype=jnp.int32).astype(jnp.float32) - _ROUNDING)
    return counted & (rank < count.astype(jnp.int32))
