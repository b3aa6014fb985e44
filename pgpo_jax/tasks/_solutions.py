from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from pgpo_jax.errors import PGPOValueError


def select_solutions(
    rewards: Sequence[float | int] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
    *,
    threshold: float = 0.5,
    exclude_self: bool = True,
) -> tuple[Int[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Choose for each rollout the peer whose solution its teacher is shown.

    The candidates are the successful rollouts of the same group in batch order. The first one is
    chosen. With `exclude_self` a rollout never teaches itself, so the only success of a group
    learns nothing.

    Args:
        rewards: one score per rollout, shape [N].
        groups: the group (question) of each rollout, shape [N]. A question that was drawn twice has
            two groups.
        threshold: lowest score of a successful rollout.
        exclude_self: whether to remove a rollout from its own candidates.

    Returns:
        The index of the chosen peer, or -1 if there is none, and the mask of rollouts with a peer.
        Both have shape [N].

    Raises:
        ValueError: the shapes differ, or a reward or the threshold is not finite.

    >>> index, mask = select_solutions([0, 1, 0], [0, 0, 1])
    >>> index.tolist(), mask.tolist()
    ([1, -1, -1], [True, False, False])
    """
    scores, group_ids = np.asarray(rewards, np.float64), np.asarray(groups)
    if scores.ndim != 1 or scores.shape != group_ids.shape:
        raise PGPOValueError(
            f"rewards and groups must be of one shape [N], got {scores.shape} and {group_ids.shape}"
        )
    if not np.isfinite(scores).all() or not np.isfinite(threshold):
        raise PGPOValueError(f"rewards and threshold must be finite, got {scores} and {threshold}")
    index = np.full(scores.shape, -1, np.int64)
    for group in np.unique(group_ids):
        members = np.flatnonzero(group_ids == group)
        successes = members[scores[members] >= threshold]
        for i in members:
            candidates = successes[successes != i] if exclude_self else successes
            if candidates.size:
                index[i] = candidates[0]
    return index, index >= 0
