from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pgpo_jax.tasks import Message, Question, explained_chat, explanation_prompt
from pgpo_jax.training.objectives._by_data import TaughtByData
from pgpo_jax.training.objectives._teaching import TeacherPrompts, encoded_prompts
from pgpo_jax.training.rollout._records import Rollout


@dataclass(frozen=True)
class OPSD(TaughtByData):
    """On-policy self-distillation: the teacher is shown the data's solution (arXiv 2601.18734).

    Every response to a question with a `solution` trains, right or wrong. The settings of version 3
    of the paper are a frozen teacher, KL(q||p) over the whole vocabulary, the mean over tokens and
    `loss.entry_clip`; The public code at 590ec26 has the JSD of weight .5 and no clip.
    `loss.support="sampled"` is Eq. 9. With the clip the loss may be negative.

    Args:
        teacher: which weights the teacher has; `reason_first` lets it explain the solution first.
        loss: the divergence and how it is reduced.
        information: the estimator of I, and the multiplier of a modulated loss.

    >>> from pgpo_jax.training import LossConfig, TeacherConfig
    >>> loss = LossConfig(teacher_weight=0.0, support="full", reduction="token_mean")
    >>> OPSD(TeacherConfig(kind="frozen"), loss).context.column
    'solution'

    Added in version 0.2.0.
    """

    name: ClassVar[str] = "opsd"

    def prompts(self, rollout: Rollout) -> TeacherPrompts:
        """What the teacher of each response reads, its own explanation included."""
        if not self.teacher.reason_first:
            return super().prompts(rollout)
        settings, policy = self.teacher, rollout.policy
        asked = []
        for question, plain in zip(rollout.questions, rollout.prompts, strict=True):
            text = explanation_prompt(question)
            encoded = policy.encode(question.messages_with(text), thinking=settings.thinking)
            solved = self.context.text(question) is not None
            # All processes ask together, so that a question without a solution asks as well.
            fits = solved and len(encoded) <= settings.max_prompt
            asked.append(encoded if fits else plain)
        assert rollout.ask_teacher is not None
        explanations = rollout.ask_teacher(asked, settings.max_rationale)

        def chat(row: int, question: Question) -> Sequence[Message] | None:
            if self.context.text(question) is None:
                return None
            return explained_chat(question, explanations[row // rollout.samples])

        return encoded_prompts(rollout, chat, settings)
