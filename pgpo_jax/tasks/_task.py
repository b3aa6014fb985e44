from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._question import Question


@runtime_checkable
class Task(Protocol):
    """A task to train a model on: its questions, and the grading of responses.

    Any class with these two methods is a task. It need not inherit from this one.

    >>> class Sums:
    ...     def questions(self, split, seed):
    ...         return [Question(f"{split}-1", "sums", "", "1 + 1?", "2")]
    ...
    ...     def grade(self, question, response):
    ...         right = response.strip() == question.answer
    ...         return Grade(float(right), response.strip(), "" if right else "Count once more.")
    >>> isinstance(Sums(), Task)
    True

    Added in version 0.2.0.
    """

    def questions(self, split: str, seed: int) -> Sequence[Question]:
        """The questions of a split, in a fixed order.

        Args:
            split: `"train"` or `"test"`.
            seed: seed that may decide the questions or their order.

        Returns:
            A sequence, which is empty if the task has no such split. An endless source has the
            length `sys.maxsize`.
        """
        ...

    def grade(self, question: Question, response: str) -> Grade:
        """The grade of one response.

        Args:
            question: one of `questions`.
            response: the decoded response.

        Returns:
            A `Grade` whose score is finite.
        """
        ...
