r"""The columns of a question that a teacher is shown, with the wording of each method."""

from collections.abc import Callable
from dataclasses import dataclass

from pgpo_jax.tasks._prompts import teacher_prompt
from pgpo_jax.tasks._question import Message, Question

_BOXED = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
_TRANSITION = (
    "\n\nOnce you have understood the reference solution, solve the problem in your own way and "
    "derive the same final answer:\n"
)
_EXPLAIN = (
    "\n\nExplain the reference solution: its key steps, and why they are right. Give no solution "
    "of your own."
)


@dataclass(frozen=True)
class Context:
    """A column of the data and the text around it.

    Attributes:
        column: field of `Question` that is shown.
        published: function of the question and the text of the column. It returns the last user
            message, as in the method's own runs.

    >>> question = Question("q1", "sums", "", "1 + 1?", "2", solution="One more: 2.")
    >>> CONTEXTS["opsd"].prompt(question, "sdpo").splitlines()[:4]
    ['1 + 1?', 'Correct solution:', '', 'One more: 2.']

    Added in version 0.2.0.
    """

    column: str
    published: Callable[[Question, str], str]

    def text(self, question: Question) -> str | None:
        """The text of the column; `None` if it is missing or blank."""
        text = getattr(question, self.column)
        return text if text and text.strip() else None

    def prompt(self, question: Question, template: str = "published") -> str | None:
        """The user message that shows the column to a teacher.

        Args:
            question: the question that the student answered.
            template: `"published"` for the method's own wording, or `"sdpo"` for that of
                `teacher_prompt`.

        Returns:
            The message; `None` if the question has no such column.
        """
        text = self.text(question)
        if text is None:
            return None
        if template == "sdpo":
            return teacher_prompt(question, solution=text)
        return self.published(question, text)


def explanation_prompt(question: Question) -> str:
    """The user message that asks for an explanation of a question's solution (OPSD).

    >>> question = Question("q1", "sums", "", "1 + 1?", "2", solution="One more: 2.")
    >>> explanation_prompt(question).splitlines()[:4]
    ['1 + 1?', '', 'Here is a reference solution to this problem:', 'One more: 2.']

    Added in version 0.2.0.
    """
    problem, _ = _problem(question)
    return f"{_shown(problem, question.solution or '')}{_EXPLAIN}"


def explained_chat(question: Question, explanation: str) -> tuple[Message, ...]:
    """The chat of a teacher that has explained the solution first, up to its answer.

    >>> question = Question("q1", "sums", "", "1 + 1?", "2", solution="One more: 2.")
    >>> [turn.role for turn in explained_chat(question, "Counting on gives 2.")]
    ['user', 'assistant', 'user']

    Added in version 0.2.0.
    """
    _, closing = _problem(question)
    asked = question.messages_with(explanation_prompt(question))
    last = f"{_TRANSITION}{closing}".strip()
    return (*asked, Message("assistant", explanation), Message("user", last))


def _problem(question: Question) -> tuple[str, str]:
    """The question without the sentence about the box, and that sentence on its own line."""
    problem = question.prompt.removesuffix(_BOXED)
    return problem, "" if problem == question.prompt else _BOXED[1:]


def _shown(problem: str, solution: str) -> str:
    return f"{problem}\n\nHere is a reference solution to this problem:\n{solution}\n"


def _reference(question: Question, text: str) -> str:
    problem, closing = _problem(question)
    return f"{_shown(problem, text)}{_TRANSITION}{closing}"


def _demonstration(question: Question, text: str) -> str:
    return (
        f"\n{question.prompt}\n\nThis is an example for a response to the question:\n{text}\n\n"
        "Now answer with a response of your own, including the thinking process.\n"
    )


def _final_answer(question: Question, text: str) -> str:
    return f"{question.prompt}\n\n[Reference solution]\n{text}\n\n[Student response]\n"


CONTEXTS: dict[str, Context] = {
    "opsd": Context("solution", _reference),
    "sdft": Context("demonstration", _demonstration),
    "rlsd": Context("answer", _final_answer),
}
"""The context of each objective that shows one, by the objective's name.

Added in version 0.2.0.
"""
