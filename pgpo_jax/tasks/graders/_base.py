from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._question import Question


@runtime_checkable
class Grader(Protocol):
    """A grader: any function of the question and the text of the response.

    >>> def brevity(question, response):
    ...     return Grade(1 / (1 + len(response)))
    >>> isinstance(brevity, Grader)
    True

    Added in version 0.2.0.
    """

    def __call__(self, question: Question, response: str, /) -> Grade:
        """The grade of one response.

        Args:
            question: the question, with its right answer and further columns.
            response: the decoded response.

        Returns:
            A `Grade` whose score is finite.
        """
        ...


@runtime_checkable
class BatchGrader(Grader, Protocol):
    """A grader that grades many responses at a time, in its own processes.

    It has its own time limit. If one row fails, the others are not affected. A row that could not
    be graded is a `FailedGrade`.

    Added in version 0.2.0.
    """

    def grade_many(self, questions: Sequence[Question], responses: Sequence[str]) -> list[Grade]:
        """Grade many responses, in their order.

        Args:
            questions: one question for each response.
            responses: the decoded responses.

        Returns:
            One grade for each response.
        """
        ...


class FailedGrade(Grade):
    """The grade of a row that could not be graded: the score is 0.0, and `feedback` says why.

    Training uses it like any other `Grade`. `grade_all` counts and logs it.

    Added in version 0.2.0.
    """


class TimedOutGrade(FailedGrade):
    """The grade of a row that took too long because of the response, not of the grader.

    `grade_all` counts and logs it, but does not conclude that the grader is broken.

    Added in version 0.2.0.
    """
