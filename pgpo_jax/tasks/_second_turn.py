"""The chats of a second turn, which show a first answer and feedback on it (RLTF)."""

from pgpo_jax.tasks._question import Message, Question

_CRITIQUE = "Expert Critique:\n"
_AGAIN = (
    "\n\nInstructions: Use the critique to answer the original question again. Give the whole "
    "answer, in the form that it asks for."
)
_ASK = (
    "Write a short critique of this answer: what is wrong with it, or that nothing is. Do not give "
    "the solution away."
)


def second_turn(question: Question, answer: str, feedback: str) -> tuple[Message, ...]:
    """The chat that asks for a second answer.

    Args:
        question: the question.
        answer: the first answer.
        feedback: feedback on the first answer.

    >>> question = Question("q1", "sums", "", "1 + 1?", "2")
    >>> [turn.role for turn in second_turn(question, "3", "Too much.")]
    ['user', 'assistant', 'user']

    Added in version 0.2.0.
    """
    asked = f"{_CRITIQUE}{feedback.strip()}{_AGAIN}"
    return (*question.messages, Message("assistant", answer), Message("user", asked))


def critique_request(question: Question, answer: str) -> tuple[Message, ...]:
    """The chat that asks for feedback on an answer; the model learns the feedback after it.

    Args:
        question: the question.
        answer: the answer.

    >>> question = Question("q1", "sums", "", "1 + 1?", "2")
    >>> critique_request(question, "3")[-1].content[:7]
    'Write a'

    Added in version 0.2.0.
    """
    return (*question.messages, Message("assistant", answer), Message("user", _ASK))
