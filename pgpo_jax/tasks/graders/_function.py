import inspect
from typing import Any

from pgpo_jax.errors import PGPOTypeError
from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.graders._as_grade import as_grade


class FunctionGrader:
    """A function of your own as a grader.

    >>> grader = FunctionGrader(lambda question, response: len(response) < 10, "brevity")
    >>> grader(Question("q", "", "", "Why?", ""), "Because.")
    Grade(score=1.0, prediction='', feedback='')

    Added in version 0.2.0.
    """

    def __init__(self, function: Any, name: str = "") -> None:
        """A grader from a function.

        Args:
            function: function of the question and the text of the response. `as_grade` says what it
                may return.
            name: name of the grader in messages; the function's own name if empty.

        Raises:
            TypeError: `function` cannot be called with two arguments.
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
        except ValueError:  # Some built-in functions have no signature.
            return
        try:
            signature.bind("question", "response")
        except TypeError:
            raise PGPOTypeError(
                "a reward is called with a question and a response, but that does not fit "
                f"{self._name}{signature}"
            ) from None

    def __call__(self, question: Question, response: str) -> Grade:
        """The result of the function for a response, as a `Grade`.

        Raises:
            TypeError: the function returns a type that `as_grade` does not accept.
            ValueError: its score is not finite.
        """
        return as_grade(self._function(question, response))
