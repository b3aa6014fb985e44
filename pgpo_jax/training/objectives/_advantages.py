"""Advantages of responses within their groups."""

import numpy as np
from jaxtyping import Float

from pgpo_jax.training.rollout._records import Rollout


def group_advantages(rollout: Rollout, kind: str = "centred") -> Float[np.ndarray, "Q samples"]:
    """Scores less the mean of their group.

    Args:
        rollout: the graded responses.
        kind: `"centred"`, or `"standardised"`: over the group's deviation (of the whole group, not
            of a sample of it), and 0 where all scores are equal.

    Returns:
        Float32, a row per question.
    """
    groups = rollout.scores.reshape(-1, rollout.samples)
    centred = groups - groups.mean(1, keepdims=True)
    if kind == "standardised":
        deviation = groups.std(1, keepdims=True)
        centred = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
    return centred.astype(np.float32)
