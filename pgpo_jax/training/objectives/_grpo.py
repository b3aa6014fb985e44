"""The objective grpo."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pgpo_jax.distillation import PolicyLoss, policy_head_loss
from pgpo_jax.training.config import LossConfig
from pgpo_jax.training.objectives._advantages import group_advantages
from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.objectives._means import mean_over_loss, reduction_denominators
from pgpo_jax.training.objectives._models import Models, student_states
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout


@dataclass(frozen=True)
class GRPO(Objective):
    """The baseline without a teacher: a policy gradient with group-relative advantages.

    Advantages are scores less the mean of their group, not divided by its deviation. The policy
    loss is clipped, and every response trains. The step is the only one of its batch. So the ratio
    to the policy at the beginning of the batch is 1 and no clip is active. There is no information:
    the optimizer is given 0.

    Args:
        loss: `reduction`, `rollout_clip` and `chunk` are read.

    >>> GRPO().teacher_settings is None
    True

    Added in version 0.2.0.
    """

    loss: LossConfig = LossConfig()

    @property
    def one_pass(self) -> bool:
        """True: the student answers one prompt."""
        return True

    @property
    def learning_fraction(self) -> str:
        """The share of groups whose scores differ."""
        return "policy/mixed_group_fraction"

    @property
    def columns(self) -> tuple[str, ...]:
        """The advantage."""
        return ("advantage",)

    def prepare(self, rollout: Rollout) -> Lesson:
        """Keeps every response that has a token."""
        advantages = group_advantages(rollout)
        return Lesson(
            rollout.answered,
            columns={"advantage": advantages.ravel()},
            facts={"mixed": advantages.any(1)},
        )

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """What there is to learn from."""
        del samples
        return {"policy/mixed_group_fraction": float(rows["mixed"].mean())}

    def denominators(self, batch: Experience, sequences: int) -> dict[str, Any]:
        """Of the loss's reduction."""
        return reduction_denominators(self.loss.reduction, batch, sequences)

    def loss_of_rows(
        self, models: Models, batch: Experience, denominators: dict[str, Any]
    ) -> PolicyLoss:
        """The clipped policy loss of some rows."""
        hidden, head = student_states(models, batch)
        correction: dict[str, Any] = {}
        if self.loss.rollout_clip is not None:
            correction = {
                "sampler_logprobs": batch.sampler_logprobs,
                "rollout_clip": self.loss.rollout_clip,
            }
        assert batch.columns is not None
        return policy_head_loss(
            hidden,
            head,
            batch.response,
            batch.columns["advantage"],
            batch.response_mask,
            batch.sequence_mask,
            temperature=models.temperature,
            reduction=self.loss.reduction,
            chunk_size=self.loss.chunk,
            sharding=models.head_sharding,
            **correction,
            **denominators,
        )

    def metrics(self, out: PolicyLoss, batch: Experience) -> dict[str, Array]:
        """Means over the response tokens of the sequences that enter the loss."""
        ratio = jnp.exp(out.student_logprobs - batch.sampler_logprobs)
        return {
            "loss": out.loss,
            "policy/student_entropy": mean_over_loss(batch, out.student_entropy),
            "rollout/importance_ratio": mean_over_loss(batch, ratio),
        }

    def tokens(self, out: PolicyLoss) -> dict[str, Float[Array, "R T"]]:
        """The student's entropy at each response token, in nats."""
        return {"student_entropy": out.student_entropy}
