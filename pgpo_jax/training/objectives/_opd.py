"""The objective opd."""

from dataclasses import dataclass
from typing import Any

from pgpo_jax.distillation import HeadLoss
from pgpo_jax.training.objectives._models import Models
from pgpo_jax.training.objectives._taught import Taught
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout


@dataclass(frozen=True)
class OPD(Taught):
    """On-policy distillation: the student learns from another model on its own responses.

    The teacher is another model, of any size, that reads the student's own prompt and response:
    nothing is shown to it. Every response trains, right or wrong, so the grade decides nothing.

    The information I_k is what the estimator measures between student and teacher behind the same
    prompt. With `entropy` it is the drop of the entropy from student to teacher, H(p) - H(q): how
    much more certain the teacher is than the student, in nats. It falls below 0 where the teacher
    is less sure.

    Args:
        teacher: of the kind `external`.
        loss: the form (divergence or advantage), the support, and how the loss is reduced.
        information: the estimator of I, and the multiplier of a modulated loss.

    References:
        Thinking Machines, On-Policy Distillation, as run in
        https://github.com/thinking-machines-lab/tinker-cookbook (9dfcc3a2); Rethinking On-Policy
        Distillation, https://arxiv.org/abs/2604.13016, as run in https://github.com/thunlp/OPD.

    >>> from pgpo_jax.training import LossConfig, TeacherConfig
    >>> teacher = TeacherConfig(kind="external", model="models/large")
    >>> OPD(teacher, LossConfig(form="advantage", support="sampled", teacher_weight=1.0)).one_pass
    True

    Added in version 0.2.0.
    """

    @property
    def longest_teacher_prompt(self) -> int:
        """1: the teacher reads the student's prompt."""
        return 1

    @property
    def learning_fraction(self) -> str:
        """Whether the step was applied: every response that has a token trains."""
        return "optimizer/applied"

    def prepare(self, rollout: Rollout) -> Lesson:
        """Keeps every response that has a token."""
        return self.weighed(rollout, Lesson(rollout.answered))

    def loss_of_rows(
        self, models: Models, batch: Experience, denominators: dict[str, Any]
    ) -> HeadLoss:
        """The loss of student and teacher behind the same prompt, of some rows."""
        return super().loss_of_rows(models, behind_one_prompt(batch), denominators)


def behind_one_prompt(batch: Experience) -> Experience:
    """The rows with the student's prompts as the teacher's."""
    return batch._replace(
        teacher_prompt=batch.prompt,
        teacher_prompt_mask=batch.prompt_mask,
        teacher_prompt_owner=batch.prompt_owner,
    )
