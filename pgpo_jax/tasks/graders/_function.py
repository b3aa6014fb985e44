import inspect
from typing import Any

from pgpo_jax.errors import PGPOTypeError
from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.graders._as_grade import as_grade


class FunctionGrader:
    """A function of yours as a grader.

    >>> grader = FunctionGrader(lambda question, response: len(response) < 10, "brevity")
    >>> grader(Question("q", "", "", "Why?", ""), "Because.")
    Grade(score=1.0, prediction='', feedback='')

    Added in version 0.2.0.
    """

    def __init__(self, function: Any, name: str = "") -> None:
        """A grader from a function.

        Args:
            function: called with the question and the response text; see `as_grade` for what it
                may return.
            name: what messages call it; the function's own name if empty.

        Raises:
            TypeError: if `function` cannot be called with two arguments.
        """
        self._name = name or getattr(function, "__name__", type(function).__name__)
        self._function = function
        if not callable(function):
            raise PGPOTypeError(
                f"a reward must be a function of a question and a response, but {self._name} is "
                f"{type(function).__name__}"
            )
        try:
            signature = inspect.signature(function)
        except ValueError:  # some built-in functions do not tell theirs
            return
        try:
            signature.bind("question", "response")
        except TypeError:
            raise PGPOTypeError(
                "a reward is called with a question and a response, but that does not fit "
                f"{self._name}{signature}"
            ) from None

    def __call__(self, question: Question, response: str) -> Grade:
        """What the function says of a response, as a `Grade`.

        Raises:
            TypeError: if the function returns something else than `as_grade` takes.
            ValueError: if its score is not finite.
        """
        return as_grade(self._function(question, response))
