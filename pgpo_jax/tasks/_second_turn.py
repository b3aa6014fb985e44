"""The chats of a second turn, in which a first answer and words on it are shown (RLTF)."""

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
        feedback: words on it.

    >>> question = Question("q1", "sums", "", "1 + 1?", "2")
    >>> [turn.role for turn in second_turn(question, "3", "Too much.")]
    ['user', 'assistant', 'user']

    Added in version 0.2.0.
    """
    asked = f"{_CRITIQUE}{feedback.strip()}{_AGAIN}"
    return (*question.messages, Message("assistant", answer), Message("user", asked))


def critique_request(question: Question, answer: str) -> tuple[Message, ...]:
    """The chat that asks for words on an answer, behind which the feedback is learnt.

    Args:
        question: the question.
        answer: the answer.

    >>> question = Question("q1", "sums", "", "1 + 1?", "2")
    >>> critique_request(question, "3")[-1].content[:7]
    'Write a'

    Added in version 0.2.0.
    """
    return (*question.messages, Message("assistant", answer), Message("user", _ASK))
