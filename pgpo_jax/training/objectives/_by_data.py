"""Objectives whose teacher is shown a column of the data."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import CONTEXTS, Context, Message, Question
from pgpo_jax.training.objectives._taught import Taught
from pgpo_jax.training.objectives._teaching import TeacherPrompts, encoded_prompts
from pgpo_jax.training.rollout._records import Lesson, Rollout

# Questions that are looked at; a source may be endless.
_LOOKED_AT = 10_000


@dataclass(frozen=True)
class TaughtByData(Taught):
    """A teacher that is shown a column of the data, whatever was answered.

    Every response to a question that has the column trains. Responses to other questions, and those
    whose teacher prompt is too long, are left out and counted.

    Args:
        teacher: as of `Taught`, as are `loss` and `information`.

    Added in version 0.2.0.
    """

    name: ClassVar[str]

    @property
    def context(self) -> Context:
        """The column, and the words around it."""
        return CONTEXTS[self.name]

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Refuses data of which no question has the column.

        Raises:
            ValueError: naming the column.
        """
        looked_at = min(len(questions), _LOOKED_AT)
        found = (self.context.text(x) for x in islice(iter(questions), looked_at))
        if not any(text is not None for text in found):
            raise PGPOValueError(
                f"objective {self.name!r} shows the column {self.context.column!r} to its teacher, "
                f"which none of the first {looked_at} questions has: name it with "
                f"--columns.{self.context.column}"
            )

    def prompts(self, rollout: Rollout) -> TeacherPrompts:
        """What the teacher of each response reads."""

        def chat(row: int, question: Question) -> Sequence[Message] | None:
            del row
            text = self.context.prompt(question, self.teacher.template)
            return None if text is None else question.messages_with(text)

        return encoded_prompts(rollout, chat, self.teacher)

    def prepare(self, rollout: Rollout) -> Lesson:
        """Keeps the responses to questions that have the column."""
        prompts = self.prompts(rollout)
        kept = np.isin(np.arange(len(rollout.grades)), list(prompts.ids))
        lacking = [self.context.text(question) is None for question in rollout.questions]
        facts = {"overlong": prompts.overlong, "lacking": np.array(lacking)[rollout.owners]}
        lesson = Lesson(kept, prompts.ids, prompts.texts, facts=facts)
        return self.weighed(rollout, lesson)

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """What there is to learn from, and what was left out."""
        del samples
        return {
            "self_distillation/reprompt_sample_fraction": int(rows["kept"].sum())
            / len(rows["kept"]),
            "self_distillation/dropped_teacher_prompts": float(rows["overlong"].sum()),
            "self_distillation/without_column": float(rows["lacking"].sum()),
        }
