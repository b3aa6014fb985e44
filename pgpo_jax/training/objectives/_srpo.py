"""The objective srpo."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pgpo_jax._reduce import mean_of
from pgpo_jax.distillation import TokenLoss, routed_loss
from pgpo_jax.training.objectives._models import Models
from pgpo_jax.training.objectives._router import Routed, distilled
from pgpo_jax.training.objectives._taught import Known
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Rollout


@dataclass(frozen=True)
class SRPO(Routed):
    """Right responses learn by reward, wrong ones from a teacher (SRPO, arXiv 2604.02288).

    A wrong response whose teacher has a prompt of its own is distilled, as in SDPO. The weight of
    each token is exp(-beta H(q)), divided by the mean of this weight over all distilled tokens of
    the batch. Every other response, a right one or a wrong one without a teacher signal, has GRPO's
    policy loss. Both are divided by one number: all tokens of the batch, with
    `loss.reduction="token_mean"`. The loss may be negative.

    Args:
        teacher: which weights the teacher has and what it is shown.
        loss: the divergence and how it is reduced.
        information: the estimator of I, which is measured on the distilled responses.
        policy: the advantages, and the weight of an unsure teacher.

    >>> SRPO().policy.entropy_beta
    1.0

    Added in version 0.2.0.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """The advantage of the response, and whether it is distilled."""
        return ("advantage", "distil")

    @property
    def needs_whole_batch(self) -> bool:
        """True: the mean of the weights."""
        return True

    def routes(
        self, rollout: Rollout, taught: Bool[np.ndarray, " N"]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Wrong ones to their teacher, all others to the reward."""
        distil = taught & (rollout.scores < self.teacher.success_threshold)
        weights = {"distil": distil.astype(np.float32), "reinforce": (~distil).astype(np.float32)}
        return weights, {}

    def token_loss(self, models: Models) -> TokenLoss:
        """The weighted divergence or the policy loss."""
        return routed_loss(super().token_loss(models), beta=self.policy.entropy_beta)

    def beforehand(self, models: Models, batch: Experience) -> dict[str, Array]:
        """Sum and count of the weights of distilled tokens."""
        return self._weights(batch, self.teacher_entropies(models, batch))

    def per_token(self, batch: Experience, known: Known) -> dict[str, Float[Array, "R T"]]:
        """The advantage of each token, and what its two losses are multiplied by."""
        measured = "weight_sum" in known.denominators
        weights = known.denominators if measured else self._weights(batch, known.entropies())
        mean = mean_of(weights["weight_sum"], weights["weight_count"])
        found = super().per_token(batch, known)
        # Nothing is distilled where there is no weight.
        scale = found["distil"] / jnp.where(mean > 0, mean, 1.0)
        return found | {"reinforce": 1 - found["distil"], "distil": scale}

    def _weights(
        self, batch: Experience, entropies: Float[Array, "R T"]
    ) -> dict[str, Float[Array, ""]]:
        """Not divided, so that micro-batches add up."""
        chosen = (
            self.counted(batch).response_mask & (batch.sequence_mask & distilled(batch))[:, None]
        )
        weights = jnp.exp(-self.policy.entropy_beta * entropies)
        return {
            "weight_sum": jnp.sum(jnp.where(chosen, weights, 0.0)),
            "weight_count": jnp.sum(chosen.astype(weights.dtype)),
        }
