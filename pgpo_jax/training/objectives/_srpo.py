from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pgpo_jax._reduce import mean_of
from pgpo_jax.distillation import HeadLoss, TokenLoss, routed_loss
from pgpo_jax.training.config import PolicyConfig
from pgpo_jax.training.objectives._advantages import group_advantages
from pgpo_jax.training.objectives._base import Models
from pgpo_jax.training.objectives._sdpo import SDPO
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout


@dataclass(frozen=True)
class SRPO(SDPO):
    """Right responses learn by reward, wrong ones from a teacher (SRPO, arXiv 2604.02288).

    A wrong response whose teacher has something to show is distilled, as SDPO does it, with each
    token weighted by exp(-beta H(q)) over the mean of that weight over all distilled tokens of the
    batch. Every other response, a right one or a wrong one without a teacher signal, has GRPO's
    policy loss. Both are divided by one number: all tokens of the batch, with
    `loss.reduction="token_mean"`. The loss may be negative.

    The teacher of a reinforced response reads the student's own prompt; nothing of it enters the
    loss or the information.

    Args:
        teacher: which weights the teacher has and what it is shown.
        loss: the divergence and how it is reduced.
        information: the estimator of I, which is measured on the distilled responses.
        policy: the advantages, and the weight of an unsure teacher.

    >>> SRPO().policy.entropy_beta
    1.0
    """

    policy: PolicyConfig = PolicyConfig()

    loss_name: ClassVar[str] = "token_loss"

    @property
    def learning_fraction(self) -> str:
        """The share of responses that are distilled or have an advantage."""
        return "router/learning_fraction"

    @property
    def columns(self) -> tuple[str, ...]:
        """The advantage of the response, and whether it is distilled."""
        return ("advantage", "distil")

    @property
    def needs_whole_batch(self) -> bool:
        """True: the mean of the weights."""
        return True

    def prepare(self, rollout: Rollout) -> Lesson:
        """Routes the responses; each that has a token is kept."""
        lesson = super().prepare(rollout)
        wrong = rollout.scores < self.teacher.success_threshold
        distil = lesson.kept & wrong
        advantages = group_advantages(rollout, self.policy.advantage).ravel()
        prompts, texts = dict(lesson.teacher_prompts), dict(lesson.teacher_texts)
        for row in np.flatnonzero(rollout.answered & ~distil).tolist():
            # A model cannot read nothing; what it says of these rows is not used.
            prompts[row] = rollout.prompts[rollout.owners[row]]
            texts.pop(row, None)
        learning = distil | (rollout.answered & (advantages != 0))
        return lesson._replace(
            kept=rollout.answered,
            teacher_prompts=prompts,
            teacher_texts=texts,
            measured=distil,
            columns={"advantage": advantages, "distil": distil.astype(np.float32)},
            facts={**lesson.facts, "distil": distil, "learning": learning},
        )

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """Where the responses went."""
        reprompted = "self_distillation/reprompt_sample_fraction"
        distilled = float(rows["distil"].mean())
        return super().row_metrics(rows, samples) | {
            reprompted: distilled,
            "router/distilled_fraction": distilled,
            "router/reinforced_fraction": float((rows["kept"] & ~rows["distil"]).mean()),
            "router/learning_fraction": float(rows["learning"].mean()),
        }

    def token_loss(self, models: Models) -> TokenLoss:
        """The weighted divergence or the policy loss."""
        return routed_loss(super().token_loss(models), beta=self.policy.entropy_beta)

    def beforehand(self, models: Models, batch: Experience) -> dict[str, Array]:
        """Sum and count of the weights of distilled tokens."""
        return self._weights(batch, self.teacher_entropies(models, batch))

    def per_token(
        self,
        batch: Experience,
        denominators: Mapping[str, Any],
        entropies: Callable[[], Float[Array, "R T"]],
    ) -> dict[str, Float[Array, "R T"]]:
        """The advantage of each token, and what its two losses are multiplied by."""
        assert batch.columns is not None
        known = "weight_sum" in denominators
        weights = denominators if known else self._weights(batch, entropies())
        mean = mean_of(weights["weight_sum"], weights["weight_count"])
        shape, distil = batch.response_mask.shape, batch.columns["distil"][:, None]
        # Nothing is distilled where there is no weight.
        scale = distil / jnp.where(mean > 0, mean, 1.0)
        return {
            "advantages": jnp.broadcast_to(batch.columns["advantage"][:, None], shape),
            "reinforce": jnp.broadcast_to(1 - distil, shape),
            "distil": jnp.broadcast_to(scale, shape),
        }

    def metrics(self, out: HeadLoss, batch: Experience) -> dict[str, Array]:
        """The loss of all responses, and the teacher's part of those that are distilled."""
        taught = batch._replace(sequence_mask=batch.sequence_mask & self._distilled(batch))
        whole, part = super().metrics(out, batch), super().metrics(out, taught)
        own = ("self_distillation/token_loss", "self_distillation/student_entropy")
        taught_only = ("self_distillation/", "distillation/")
        return {
            name: part[name] if name.startswith(taught_only) and name not in own else value
            for name, value in whole.items()
        }

    def _weights(
        self, batch: Experience, entropies: Float[Array, "R T"]
    ) -> dict[str, Float[Array, ""]]:
        """Not divided, so that micro-batches add up."""
        chosen = (
            self.counted(batch).response_mask
            & (batch.sequence_mask & self._distilled(batch))[:, None]
        )
        weights = jnp.exp(-self.policy.entropy_beta * entropies)
        return {
            "weight_sum": jnp.sum(jnp.where(chosen, weights, 0.0)),
            "weight_count": jnp.sum(chosen.astype(weights.dtype)),
        }

    @staticmethod
    def _distilled(batch: Experience) -> Bool[Array, " R"]:
        assert batch.columns is not None
        return batch.columns["distil"] > 0
