"""Which questions a run is evaluated on."""

from collections.abc import Sequence
from pathlib import Path

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import Question, is_synthetic, load_questions
from pgpo_jax.training.config._train_config import TrainConfig


def held_out_task(config: TrainConfig) -> str | None:
    """The task that a run is evaluated on, or `None` if there is none.

    Args:
        config: the run.

    Returns:
        `eval_task`, or by default what belongs to `task`.
    """
    if config.eval_task is not None or is_synthetic(config.task):
        return config.eval_task or config.task
    path = Path(config.task)
    test = path.with_name("test.json")
    # Where the data are not at hand, as when a run is planned elsewhere, they are taken for whole.
    if path.name == "train.json" and (test.is_file() or not path.is_file()):
        return str(test)
    return None


def held_out_questions(config: TrainConfig) -> Sequence[Question]:
    """The questions that a run is evaluated on; empty if there are none.

    Raises:
        ValueError: if the task is endless and `evaluation.questions` is 0, or if it asks for more
            than there are.
    """
    task, wanted = held_out_task(config), config.evaluation.questions
    if task is None:
        return ()
    # One held-out set for all seeds: runs are compared on the same questions.
    questions = load_questions(task, split="test", seed=0)
    if is_synthetic(task):
        if not wanted:
            raise PGPOValueError("evaluation.questions must be positive for an endless task, got 0")
        return [questions[i] for i in range(wanted)]
    if wanted > len(questions):
        raise PGPOValueError(f"evaluation.questions must be at most {len(questions)}, got {wanted}")
    return questions[: wanted or len(questions)]
