"""What objectives share that distil some responses and reinforce others."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Bool, Float

from pgpo_jax.distillation import HeadLoss
from pgpo_jax.training.config import PolicyConfig
from pgpo_jax.training.objectives._advantages import group_advantages
from pgpo_jax.training.objectives._sdpo import SDPO
from pgpo_jax.training.objectives._taught import Known, of_each_row
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout


@dataclass(frozen=True)
class Routed(SDPO):
    """A router between SDPO's divergence and GRPO's policy loss, in one batch.

    Each response that has a token is kept. For a response whose loss needs no teacher, the teacher
    reads the student's own prompt. The result enters neither the loss nor the information.

    Args:
        teacher: as of `SDPO`, as are `loss` and `information`.
        policy: the advantages.
    """

    policy: PolicyConfig = PolicyConfig()

    loss_name: ClassVar[str] = "token_loss"

    @property
    def learning_fraction(self) -> str:
        """The share of responses that are distilled or have an advantage."""
        return "router/learning_fraction"

    @abstractmethod
    def routes(
        self, rollout: Rollout, taught: Bool[np.ndarray, " N"]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Where each response goes.

        Args:
            rollout: the graded responses.
            taught: those whose teacher has something to show.

        Returns:
            Weights per response, float32: `distil`, `reinforce` and, where the policy loss reads
            the teacher, `rebellious`; and facts.
        """

    def prepare(self, rollout: Rollout) -> Lesson:
        """Routes the responses; each that has a token is kept."""
        lesson = super().prepare(rollout)
        weights, facts = self.routes(rollout, lesson.kept)
        distil = lesson.kept & (weights["distil"] > 0)
        advantages = group_advantages(rollout, self.policy.advantage).ravel()
        prompts, texts = dict(lesson.teacher_prompts), dict(lesson.teacher_texts)
        read = distil | (lesson.kept & (weights.get("rebellious", 0.0) > 0))
        for row in np.flatnonzero(rollout.answered & ~read).tolist():
            # A model cannot read nothing; what it says of these rows is not used.
            prompts[row] = rollout.prompts[rollout.owners[row]]
            texts.pop(row, None)
        reinforced = rollout.answered & (weights["reinforce"] > 0)
        learning = distil | (reinforced & (advantages != 0))
        columns = {"advantage": advantages} | weights
        return lesson._replace(
            kept=rollout.answered,
            teacher_prompts=prompts,
            teacher_texts=texts,
            measured=distil,
            columns={name: columns[name] for name in self.columns},
            facts={
                **lesson.facts,
                **facts,
                "distil": distil,
                "reinforced": reinforced,
                "learning": learning,
            },
        )

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """Where the responses went."""
        distilled = float(rows["distil"].mean())
        return super().row_metrics(rows, samples) | {
            "self_distillation/reprompt_sample_fraction": distilled,
            "router/distilled_fraction": distilled,
            "router/reinforced_fraction": float(rows["reinforced"].mean()),
            "router/learning_fraction": float(rows["learning"].mean()),
        }

    def per_token(self, batch: Experience, known: Known) -> dict[str, Float[Array, "R T"]]:
        """The advantage and the weights of the response of each token."""
        del known
        found = of_each_row(batch, *self.columns)
        return {"advantages": found.pop("advantage"), **found}

    def metrics(self, out: HeadLoss, batch: Experience) -> dict[str, Array]:
        """The loss of all responses, and the teacher's part of those that are distilled."""
        taught = batch._replace(sequence_mask=batch.sequence_mask & distilled(batch))
        whole, part = super().metrics(out, batch), super().metrics(out, taught)
        own = ("self_distillation/token_loss", "self_distillation/student_entropy")
        taught_only = ("self_distillation/", "distillation/")
        return {
            name: part[name] if name.startswith(taught_only) and name not in own else value
            for name, value in whole.items()
        }


def distilled(batch: Experience) -> Bool[Array, " R"]:
    """The rows that are distilled."""
    assert batch.columns is not None
    return batch.columns["distil"] > 0
