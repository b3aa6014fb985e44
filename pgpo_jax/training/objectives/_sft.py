"""The objective sft."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from pgpo_jax.distillation import PolicyLoss, cross_entropy_head_loss
from pgpo_jax.tasks import Question
from pgpo_jax.training.config import LossConfig
from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.objectives._means import mean_over_loss, reduction_denominators
from pgpo_jax.training.objectives._models import Models, student_states
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout


@dataclass(frozen=True)
class SFT(Objective):
    """Supervised fine-tuning: the cross-entropy of the responses that the data holds.

    Nothing is sampled for the steps. The response to a question is its `demonstration`, or else its
    `solution`, or else its `answer`, followed by the token that ends a turn. It is graded as a
    sampled one would be, so `rollout/accuracy` tells whether the grader accepts the data's own
    responses. There is no teacher and no information: the optimizer is given 0.

    Args:
        loss: `reduction` and `chunk` are read.

    >>> SFT().written(Question("q1", "sums", "", "1 + 1?", "2", solution="1 + 1 = 2"))
    '1 + 1 = 2'

    Added in version 0.2.0.
    """

    loss: LossConfig = LossConfig()

    @property
    def one_pass(self) -> bool:
        """True: the student reads one prompt."""
        return True

    def written(self, question: Question) -> str:
        """The demonstration of the question, its solution or its answer."""
        return question.demonstration or question.solution or question.answer

    def prepare(self, rollout: Rollout) -> Lesson:
        """Keeps every response that is not too long; one that is has no token."""
        return Lesson(rollout.answered, facts={"overlong": ~rollout.answered})

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """How many responses were left out."""
        del samples
        return {"rollout/overlong_responses": float(rows["overlong"].sum())}

    def denominators(self, batch: Experience, sequences: int) -> dict[str, Any]:
        """Of the loss's reduction."""
        return reduction_denominators(self.loss.reduction, batch, sequences)

    def loss_of_rows(
        self, models: Models, batch: Experience, denominators: dict[str, Any]
    ) -> PolicyLoss:
        """The cross-entropy of some rows, at temperature 1."""
        hidden, head = student_states(models, batch)
        return cross_entropy_head_loss(
            hidden,
            head,
            batch.response,
            batch.response_mask,
            batch.sequence_mask,
            reduction=self.loss.reduction,
            chunk_size=self.loss.chunk,
            sharding=models.head_sharding,
            **denominators,
        )

    def metrics(self, out: PolicyLoss, batch: Experience) -> dict[str, Array]:
        """The loss, and means over the response tokens of the sequences that enter it."""
        return {
            "loss": out.loss,
            "sft/token_cross_entropy": mean_over_loss(batch, -out.student_logprobs),
            "policy/student_entropy": mean_over_loss(batch, out.student_entropy),
        }

    def tokens(self, out: PolicyLoss) -> dict[str, Float[Array, "R T"]]:
        """The student's entropy at each response token, in nats."""
        return {"student_entropy": out.student_entropy}
