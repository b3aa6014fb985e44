import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.paths import local_path
from pgpo_jax.tasks import Message, Question, experience_items, experience_prompt, teacher_prompt
from pgpo_jax.training.objectives._taught import Taught
from pgpo_jax.training.objectives._teaching import encoded_prompts
from pgpo_jax.training.rollout._records import Lesson, Rollout


@dataclass(frozen=True)
class OPCD(Taught):
    """On-policy context distillation: the teacher reads the context of a task (arXiv 2602.12275).

    The context is one for all questions: a list of experience items (`teacher.experience`), a
    system message (`teacher.system`), or both. The student does not see it. Every response that has
    a token trains, right or wrong; those whose teacher prompt is too long are left out and counted.
    In the runs of the authors the teacher is frozen. The loss is the sum of p (log p - log q) over
    the student's 256 most likely words, not renormalised, as a mean over tokens. That loss may be
    negative.

    Args:
        teacher: which weights the teacher has, and the files of its context.
        loss: the divergence and how it is reduced.
        information: the estimator of I, and the multiplier of a modulated loss.

    >>> from pgpo_jax.training import LossConfig, TeacherConfig
    >>> loss = LossConfig(teacher_weight=1.0, support="topk_raw", k=256, reduction="token_mean")
    >>> OPCD(TeacherConfig(kind="frozen", experience="lessons.txt"), loss).teacher.experience
    'lessons.txt'

    Added in version 0.2.0.
    """

    @cached_property
    def items(self) -> tuple[str, ...]:
        """The experience list, from its file; empty if none is named.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: none of its lines is an item.
        """
        if self.teacher.experience is None:
            return ()
        items = experience_items(_text(self.teacher.experience, "teacher.experience"))
        if not items:
            raise PGPOValueError(
                "teacher.experience must be a file with lines '- EXPERIENCE ITEM: ...', none of "
                f"which is in {self.teacher.experience!r}"
            )
        return items

    @cached_property
    def system(self) -> str | None:
        """The teacher's system message, from its file; `None` if none is named.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is blank.
        """
        if self.teacher.system is None:
            return None
        text = _text(self.teacher.system, "teacher.system").strip()
        if not text:
            raise PGPOValueError(
                f"teacher.system must be a file that is not blank, got {self.teacher.system!r}"
            )
        return text

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Reads the context.

        Raises:
            FileNotFoundError: a file is not there.
            ValueError: no context is named, or a file holds none.
        """
        del questions
        if not self.items and self.system is None:
            raise PGPOValueError(
                "objective 'opcd' shows the context of the task to its teacher: name a file with "
                "--teacher.experience or --teacher.system, got neither"
            )

    def inputs(self) -> dict[str, str]:
        """Digests of what is read of the files."""
        texts = {"teacher.experience": "\n".join(self.items), "teacher.system": self.system}
        return {
            name: hashlib.sha256(text.encode()).hexdigest()[:16]
            for name, text in texts.items()
            if text
        }

    def chat(self, question: Question) -> tuple[Message, ...]:
        """What the teacher reads before the response."""
        text = question.prompt
        if self.items and self.teacher.template == "published":
            text = experience_prompt(question, self.items)
        elif self.items:
            text = teacher_prompt(question, solution="\n".join(self.items))
        turns = question.messages_with(text)
        if self.system is None:
            return turns
        return (Message("system", self.system), *turns[bool(question.system) :])

    def prepare(self, rollout: Rollout) -> Lesson:
        """Keeps every response that has a token and whose teacher prompt is short enough."""
        prompts = encoded_prompts(rollout, lambda _, question: self.chat(question), self.teacher)
        kept = np.isin(np.arange(len(rollout.grades)), list(prompts.ids))
        facts = {"overlong": prompts.overlong}
        lesson = Lesson(kept, prompts.ids, prompts.texts, facts=facts)
        return self.weighed(rollout, lesson)

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """What there is to learn from, and what was left out."""
        del samples
        return {
            "self_distillation/reprompt_sample_fraction": float(rows["kept"].mean()),
            "self_distillation/dropped_teacher_prompts": float(rows["overlong"].sum()),
            "self_distillation/experience_items": float(len(self.items)),
        }


def _text(path: str, name: str) -> str:
    place = local_path(path, name)
    if not place.is_file():
        raise PGPOFileNotFoundError(f"{name} must be a file, got {path!r}")
    try:
        return place.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PGPOValueError(f"{name} must be text in UTF-8, got {path!r}: {error}") from None
