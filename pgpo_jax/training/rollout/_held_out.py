"""Which questions a run is evaluated on."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import Question, Task, is_synthetic
from pgpo_jax.training.config import EvaluationConfig


def held_out_spec(task: str, eval_task: str | None) -> str | None:
    """What a run on a task is evaluated on, or `None` if there is nothing; no file is read.

    Args:
        task: the spec of the task.
        eval_task: the spec of another task for the evaluation.

    Returns:
        `eval_task`, or by default what belongs to `task`.
    """
    if eval_task is not None or is_synthetic(task):
        return eval_task or task
    path = Path(task)
    test = path.with_name("test.json")
    # Where the data are not at hand, as when a run is planned elsewhere, they are taken for whole.
    if path.name == "train.json" and (test.is_file() or not path.is_file()):
        return str(test)
    return None


def held_out_questions(task: Task, settings: EvaluationConfig) -> Sequence[Question]:
    """The questions that a run is evaluated on; empty if the task has no test split.

    Args:
        task: its `test` split is taken, with the seed 0 in all runs: runs are compared on the same
            questions.
        settings: how many questions.

    Raises:
        ValueError: if the task is endless and `evaluation.questions` is 0, or if it asks for more
            than there are.
    """
    questions, wanted = task.questions("test", 0), settings.questions
    if len(questions) == sys.maxsize:
        if not wanted:
            raise PGPOValueError("evaluation.questions must be positive for an endless task, got 0")
        return [questions[i] for i in range(wanted)]
    if not len(questions):
        return ()
    if wanted > len(questions):
        raise PGPOValueError(f"evaluation.questions must be at most {len(questions)}, got {wanted}")
    return questions[: wanted or len(questions)]
