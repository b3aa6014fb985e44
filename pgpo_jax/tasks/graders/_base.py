from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._question import Question


@runtime_checkable
class Grader(Protocol):
    """How a response is graded: any function of the question and the response text.

    >>> def brevity(question, response):
    ...     return Grade(1 / (1 + len(response)))
    >>> isinstance(brevity, Grader)
    True

    Added in version 0.2.0.
    """

    def __call__(self, question: Question, response: str, /) -> Grade:
        """The grade of one response.

        Args:
            question: what was asked, with the right answer and further columns.
            response: the decoded response.

        Returns:
            A `Grade` whose score is finite.
        """
        ...


@runtime_checkable
class BatchGrader(Grader, Protocol):
    """A grader that grades many responses at a time in processes of its own.

    It keeps its own time limit, and no row's failure is the failure of another: a row that could
    not be graded is a `FailedGrade`.

    Added in version 0.2.0.
    """

    def grade_many(self, questions: Sequence[Question], responses: Sequence[str]) -> list[Grade]:
        """The grades of many responses, in their order.

        Args:
            questions: one for each response.
            responses: the decoded responses.

        Returns:
            One grade for each response.
        """
        ...


class FailedGrade(Grade):
    """The grade of a row that could not be graded: score 0.0, and `feedback` says why.

    It is a `Grade` like others for whoever trains on it. `grade_all` counts and logs it.

    Added in version 0.2.0.
    """


class TimedOutGrade(FailedGrade):
    """The grade of a row that took too long, for which the response is to blame and not the grader.

    `grade_all` counts and logs it, too, but does not take it as a sign that the grader is broken.

    Added in version 0.2.0.
    """
