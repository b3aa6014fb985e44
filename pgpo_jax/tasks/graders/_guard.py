import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from pgpo_jax.errors import PGPOError, PGPORuntimeError, PGPOValueError
from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks._task import Task
from pgpo_jax.tasks.graders._as_grade import as_grade
from pgpo_jax.tasks.graders._base import FailedGrade, Grader, TimedOutGrade

_log = logging.getLogger("pgpo_jax")
# Further failures of one call are counted but not logged.
_LINES = 3


def grade_all(
    grader: Task | Grader,
    questions: Sequence[Question],
    responses: Sequence[str],
    *,
    timeout: float = 10.0,
) -> tuple[list[Grade], int]:
    """Grade many responses; a row that cannot be graded does not stop the run.

    A row fails if the reward raises or returns no grade (see `as_grade`). It then has the score 0.0
    and is counted. The first few failures of a call are logged with the id of the question. If all
    of at least two rows fail, the reward is broken and this raises.

    Rows are graded in another thread than the caller's. Python allows no signal handlers there, so
    a reward cannot set an alarm; use `timeout` instead.

    Args:
        grader: a grader, or a task that grades. One with a method `grade_many` is called once.
        questions: one question for each response.
        responses: the decoded responses.
        timeout: time limit of one row, in seconds. A Python function cannot be interrupted, so one
            that takes longer stops the run. A grader with `grade_many` has its own limit.

    Returns:
        One grade for each response, and the number of rows that failed.

    Raises:
        ValueError: there is not one question for each response.
        RuntimeError: all of at least two rows failed, or one took longer than `timeout`.

    >>> def reward(question, response):
    ...     return 1 / len(response)
    >>> question = Question("q", "", "", "Why?", "")
    >>> grades, failures = grade_all(reward, [question] * 2, ["", "ab"])
    >>> [grade.score for grade in grades], failures
    ([0.0, 0.5], 1)

    Added in version 0.2.0.
    """
    if len(questions) != len(responses):
        raise PGPOValueError(
            "there must be one question for each response, "
            f"got {len(questions)} and {len(responses)}"
        )
    grades = grade_rows(grader, questions, responses, timeout)
    failed = [i for i, grade in enumerate(grades) if isinstance(grade, FailedGrade)]
    for i in failed[:_LINES]:
        _log.warning("question %s was not graded: %s", questions[i].id, grades[i].feedback)
    if len(failed) > _LINES:
        _log.warning("%d more responses were not graded", len(failed) - _LINES)
    broken = [grade for grade in grades if _is_broken(grade)]
    if len(broken) == len(grades) >= 2:
        raise PGPORuntimeError(
            f"none of {len(grades)} responses could be graded, so the grader does not work; the "
            f"last failure, question {questions[-1].id}: {grades[-1].feedback}"
        )
    return grades, len(failed)


def _is_broken(grade: Grade) -> bool:
    return isinstance(grade, FailedGrade) and not isinstance(grade, TimedOutGrade)


def grade_rows(
    grader: Task | Grader, questions: Sequence[Question], responses: Sequence[str], timeout: float
) -> list[Grade]:
    """The same as `grade_all`, but failed rows are neither logged nor counted."""
    # Only our own tasks say that their grader alone grades. Other tasks have their own `grade`.
    inner: Any = grader
    if getattr(grader, "grades_by_grader", False):
        inner = getattr(grader, "grader", grader)
    many = getattr(inner, "grade_many", None)
    if many is not None:
        grades = list(map(as_grade, many(questions, responses)))
        if len(grades) != len(responses):
            raise PGPOValueError(
                f"grade_many must return one grade for each of {len(responses)} responses, "
                f"got {len(grades)}"
            )
        return grades
    function = grader.grade if isinstance(grader, Task) else grader
    return _in_a_thread(function, questions, responses, timeout)


def _in_a_thread(
    function: Callable[..., Any],
    questions: Sequence[Question],
    responses: Sequence[str],
    timeout: float,
) -> list[Grade]:
    """One thread serves all rows, so that the time limit of a row costs almost nothing."""
    grades: list[Grade] = []
    ended = threading.Event()
    errors: list[BaseException] = []
    began, given_up = time.monotonic(), False

    def work() -> None:
        nonlocal began
        try:
            for question, response in zip(questions, responses, strict=True):
                if given_up:
                    return
                began = time.monotonic()
                try:
                    grades.append(as_grade(function(question, response)))
                except Exception as error:
                    grades.append(FailedGrade(0.0, "", _words(error)))
        except BaseException as error:
            # `sys.exit()` in a reward shall end the run, not this thread.
            errors.append(error)
        finally:
            ended.set()

    threading.Thread(target=work, name="pgpo-grader", daemon=True).start()
    try:
        while not ended.wait(max(began + timeout - time.monotonic(), 0.0)):
            late, row = time.monotonic() - began >= timeout, len(grades)
            if late and row < len(questions):
                raise PGPORuntimeError(
                    f"the reward took longer than GraderConfig.timeout = {timeout:g} s on question "
                    f"{questions[row].id}; a Python function cannot be interrupted, so the "
                    "run stops"
                )
    finally:
        given_up = True
    if errors:
        raise errors[0]
    return grades


def _words(error: Exception) -> str:
    if isinstance(error, PGPOError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
