"""Solutions that are replaced by wrong answers, passed off as correct."""

import numpy as np
from jaxtyping import Bool, Float, Int

from pgpo_jax.tasks import select_solutions
from pgpo_jax.training import Rollout, ShownSolutions

# Sets this stream of random numbers apart from others of the same seed and step.
_STREAM = 1


def mislead(
    rollout: Rollout,
    shown: ShownSolutions,
    chance: float,
    *,
    threshold: float,
    exclude_self: bool = True,
) -> ShownSolutions:
    """Replaces some of the shown solutions by the first wrong answer of their group.

    Which ones follows from the run's seed and the step. Those of a smaller chance are among those
    of a larger one. Where a group has no wrong answer the right one stays.

    Args:
        rollout: the graded responses.
        shown: the solutions that would be shown.
        chance: of each of them to be replaced.
        threshold: the score from which on an answer is right.
        exclude_self: no response is shown to its own teacher.

    Returns:
        What is shown, with the facts `shown`, `replaced` and `unavailable` (no wrong answer was
        there) per response.
    """
    right: Int[np.ndarray, " N"] = shown.peers
    wrong, available = select_solutions(
        rollout.scores < threshold, rollout.owners, exclude_self=exclude_self
    )
    drawn: Bool[np.ndarray, " N"] = (right >= 0) & (_draws(rollout) < chance)
    replaced = drawn & available
    facts = {"shown": right >= 0, "replaced": replaced, "unavailable": drawn & ~available}
    peers = np.where(replaced, wrong, right)
    return shown._replace(peers=peers, facts={**shown.facts, **facts})


def _draws(rollout: Rollout) -> Float[np.ndarray, " N"]:
    rng = np.random.default_rng([rollout.seed, rollout.step, _STREAM])
    return rng.random(rollout.total)[rollout.places]


def misleading_metrics(rows: dict[str, np.ndarray]) -> dict[str, float]:
    """The share of the shown solutions that were replaced, and how many could not be."""
    shown = max(int(rows["shown"].sum()), 1)
    return {
        "self_distillation/misleading_fraction": int(rows["replaced"].sum()) / shown,
        "self_distillation/misleading_unavailable": float(rows["unavailable"].sum()),
    }
