import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pgpo_jax._files import is_object_spec, load_object
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._load import is_synthetic
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks._task import Task
from pgpo_jax.tasks._tasks import FileTask, SyntheticTask
from pgpo_jax.tasks.graders import exact
from pgpo_jax.tasks.sources import ColumnsConfig, held_out_source


def load_task(
    spec: str,
    *,
    eval_spec: str | None = None,
    columns: ColumnsConfig | None = None,
    grader: Callable[[Question, str], Grade] | None = None,
    seed: int = 0,
) -> Task:
    """Load a task by name.

    Args:
        spec: a source of questions, see `load_questions`, or `FILE.py:NAME`. NAME is a class with
            the methods of `Task`, which is called without arguments, or an instance of one.
        eval_spec: a source of held-out questions, of which all are used. By default it is the one
            that belongs to `spec`, see `FileTask`. A task of your own holds out its split "test".
        columns: the names of the columns of files.
        grader: grader of the responses. By default a task of your own grades them itself, and other
            tasks use exact match, see `grade`.
        seed: seed with which the questions of a task of your own are checked.

    Returns:
        A `FileTask`, a `SyntheticTask`, or your own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `spec` or `eval_spec` is none of these, or your task is not a `Task` or has no
            questions.

    >>> load_task("synthetic:physics").questions("train", 0)[0].domain
    'physics'

    Added in version 0.2.0.
    """
    columns = columns or ColumnsConfig()
    if is_object_spec(spec):
        if eval_spec is not None:
            raise PGPOValueError(
                f"eval_spec must not be given for {spec!r}, got {eval_spec!r}: a task of your own "
                "gives the questions of its split 'test' itself"
            )
        if columns != ColumnsConfig():
            raise PGPOValueError(f"columns must not be given for {spec!r}, got {columns}")
        task = _own_task(spec, seed)
        return task if grader is None else _GradedTask(task, grader)
    grader = grader or exact
    if is_synthetic(spec):
        if columns != ColumnsConfig() and (eval_spec is None or is_synthetic(eval_spec)):
            raise PGPOValueError(
                f"columns must not be given for {spec!r}, which has none, got {columns}"
            )
        return SyntheticTask(spec, grader, eval_spec=eval_spec, columns=columns)
    return FileTask(spec, eval_spec=eval_spec, columns=columns, grader=grader)


def held_out_spec(spec: str, eval_spec: str | None = None) -> str | None:
    """The name of the held-out source of a task of `load_task`; nothing is read.

    Args:
        spec: `spec` of `load_task`.
        eval_spec: `eval_spec` of `load_task`.

    Returns:
        `eval_spec`, or the default source of `spec`, or `None` if there is none. For a data set of
        the Hub and for a task of your own it is `spec` itself, because only reading shows whether
        they have a split "test".

    >>> held_out_spec("synthetic:all"), held_out_spec("elsewhere/train.json")
    ('synthetic:all', 'elsewhere/test.json')

    Added in version 0.2.0.
    """
    if eval_spec is not None or is_synthetic(spec) or is_object_spec(spec):
        return eval_spec or spec
    return held_out_source(spec)


@dataclass(frozen=True)
class _GradedTask:
    """A task with a grader other than its own."""

    task: Task
    grader: Callable[[Question, str], Grade]

    def questions(self, split: str, seed: int) -> Sequence[Question]:
        return self.task.questions(split, seed)

    def grade(self, question: Question, response: str) -> Grade:
        return self.grader(question, response)


def _own_task(spec: str, seed: int) -> Task:
    """The task that a file defines, after a check that it is a task with questions."""
    found = load_object(spec)
    if isinstance(found, type):
        _check_methods(spec, found)
        try:
            inspect.signature(found).bind()
        except (TypeError, ValueError) as error:
            raise PGPOValueError(
                f"{spec}: the class of a task must take no arguments: {error}"
            ) from error
        found = found()
    _check_methods(spec, found)
    _check_questions(spec, found.questions("train", seed))
    return found


def _check_methods(spec: str, found: Any) -> None:
    missing = [name for name in ("questions", "grade") if not callable(getattr(found, name, None))]
    if missing:
        raise PGPOValueError(
            f"{spec} must be a task, which has the methods questions(split, seed) and "
            f"grade(question, response); {' and '.join(missing)} missing, got {found!r}"
        )


def _check_questions(spec: str, questions: Any) -> None:
    rule = f"{spec}: questions('train', seed) must be a sequence of Question"
    if not hasattr(questions, "__len__") or not hasattr(questions, "__getitem__"):
        raise PGPOValueError(f"{rule}, got {type(questions).__name__}")
    if len(questions) == 0:
        raise PGPOValueError(f"{spec}: a task without questions: questions('train', seed) is empty")
    count = len(questions)
    # A lazy sequence is not created twice.
    whole = isinstance(questions, list | tuple)
    for position in range(count if whole else 1):
        if not isinstance(questions[position], Question):
            kind = type(questions[position]).__name__
            raise PGPOValueError(f"{rule}, got {kind} at position {position}")
