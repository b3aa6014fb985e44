"""The objective rlsd."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pgpo_jax.distillation import HeadLoss, TokenLoss, rescaled_advantages, rescaled_loss
from pgpo_jax.training.config import PolicyConfig
from pgpo_jax.training.objectives._advantages import group_advantages
from pgpo_jax.training.objectives._by_data import TaughtByData
from pgpo_jax.training.objectives._means import mean_over_loss
from pgpo_jax.training.objectives._models import Models
from pgpo_jax.training.objectives._taught import Known, of_each_row
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout


@dataclass(frozen=True)
class RLSD(TaughtByData):
    """Self-distilled policy gradient: the reward signs, the teacher sizes (arXiv 2604.03128).

    The advantage of each token is GRPO's, rescaled by the cut ratio of teacher and student (see
    `pgpo_jax.distillation.rescaled_advantages`). The teacher is shown the final answer only. In the
    runs of the authors it is a snapshot of the student every 10 steps. Its share falls from .5 to 0
    over the first 50 steps. Every response that has a token trains; those of a group with equal
    scores have the advantage 0. The loss may be negative.

    Args:
        teacher: which weights the teacher has.
        loss: how the loss is reduced; its divergence has no part.
        information: the estimator of I, and the multiplier of a modulated loss.
        policy: the advantages, and the teacher's share in them.

    >>> RLSD().policy.rescaling
    'algorithm1'

    Added in version 0.2.0.
    """

    policy: PolicyConfig = PolicyConfig()

    name: ClassVar[str] = "rlsd"
    loss_name: ClassVar[str] = "token_loss"

    @property
    def learning_fraction(self) -> str:
        """The share of groups whose scores differ."""
        return "policy/mixed_group_fraction"

    @property
    def columns(self) -> tuple[str, ...]:
        """The advantage of the response, and the teacher's share in this step."""
        return (*super().columns, "advantage", "mix")

    def prepare(self, rollout: Rollout) -> Lesson:
        """Keeps the responses to questions that have an answer to show."""
        lesson = super().prepare(rollout)
        advantages = group_advantages(rollout, self.policy.advantage)
        mix = np.full(advantages.size, self.policy.mix_at(rollout.step), np.float32)
        return lesson._replace(
            columns={**lesson.columns, "advantage": advantages.ravel(), "mix": mix},
            facts={**lesson.facts, "mixed": advantages.any(1)},
        )

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """What there is to learn from."""
        mixed = float(rows["mixed"].mean())
        return super().row_metrics(rows, samples) | {"policy/mixed_group_fraction": mixed}

    def token_loss(self, models: Models) -> TokenLoss:
        """The policy loss with rescaled advantages."""
        del models
        return rescaled_loss(clip=self.policy.ratio_clip, variant=self.policy.rescaling)

    def per_token(self, batch: Experience, known: Known) -> dict[str, Float[Array, "R T"]]:
        """Advantage and share of the response of each token."""
        del known
        found = of_each_row(batch, "advantage", "mix")
        return {"advantages": found["advantage"], "mix": found["mix"]}

    def metrics(self, out: HeadLoss, batch: Experience) -> dict[str, Array]:
        """Means over the response tokens of the sequences that enter the loss."""
        assert batch.columns is not None
        log_ratio = out.teacher_logprobs - out.student_logprobs
        advantages = batch.columns["advantage"][:, None]
        scale = jnp.abs(
            rescaled_advantages(
                jnp.broadcast_to(jnp.where(advantages < 0, -1.0, 1.0), log_ratio.shape),
                log_ratio,
                mix=1.0,
                clip=self.policy.ratio_clip,
                variant=self.policy.rescaling,
            )
        )
        return super().metrics(out, batch) | {
            "policy/mix": batch.columns["mix"].max(),
            "policy/rescaling": mean_over_loss(self.counted(batch), scale),
        }
