"""The questions of a run's evaluation."""

import sys
from collections.abc import Sequence

from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from pgpo_jax.tasks import Question, Task
from pgpo_jax.training.config import EvaluationConfig


class _First(list[Question]):
    """The first questions of an endless source, with its list of derived fields."""

    def __init__(self, source: Sequence[Question], count: int):
        super().__init__(source[place] for place in range(count))
        self.implied = getattr(source, "implied", ())


def held_out_questions(task: Task, settings: EvaluationConfig) -> Sequence[Question]:
    """The questions of a run's evaluation; empty if the task has no test split.

    Args:
        task: task whose `test` split is used, with the seed 0 in all runs. So runs are compared on
            the same questions.
        settings: settings with the number of questions.

    Raises:
        ValueError: the task is endless and `evaluation.questions` is 0, or there are fewer
            questions, or two ids are equal.
        TypeError: the task returns objects other than questions.
    """
    questions, wanted = task.questions("test", 0), settings.questions
    if not isinstance(questions, Sequence):
        raise PGPOTypeError(
            "questions('test', 0) of a task must give a sequence of Question, empty if there is "
            f"no such split, got {questions!r:.60}"
        )
    if len(questions) == sys.maxsize:
        if not wanted:
            raise PGPOValueError("evaluation.questions must be positive for an endless task, got 0")
        return _First(questions, wanted)
    if not len(questions):
        return ()
    if wanted > len(questions):
        raise PGPOValueError(f"evaluation.questions must be at most {len(questions)}, got {wanted}")
    chosen = questions[: wanted or len(questions)]
    known: set[str] = set()
    for question in chosen:
        if not isinstance(question, Question):
            raise PGPOTypeError(f"held-out questions must be of Question, got {question!r:.60}")
        if question.id in known:
            raise PGPOValueError(
                f"held-out questions must have different ids, got {question.id!r} twice"
            )
        known.add(question.id)
    return chosen
