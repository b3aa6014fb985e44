"""The context of a whole task: a list of lessons from earlier attempts (OPCD)."""

from collections.abc import Sequence

from pgpo_jax.tasks._question import Question

_ITEM = "- EXPERIENCE ITEM:"
_NONE = "No previous experience."


def experience_items(text: str) -> tuple[str, ...]:
    """The items of an experience list: the lines that begin with `- EXPERIENCE ITEM:`.

    Other text that a model wrote around them is left out, as in OPCD's code.

    Args:
        text: text of any length.

    Returns:
        The lines without trailing white space.

    >>> experience_items("I found:\\n- EXPERIENCE ITEM: Carry the one.\\n- and more\\n")
    ('- EXPERIENCE ITEM: Carry the one.',)

    Added in version 0.2.0.
    """
    return tuple(line.rstrip() for line in text.splitlines() if line.startswith(_ITEM))


def experience_prompt(question: Question, items: Sequence[str]) -> str:
    """The user message that shows an experience list to a teacher, as in OPCD's code.

    Args:
        question: the question that the student answered.
        items: items of `experience_items`. Without items the message says that there are none.

    Returns:
        The message.

    >>> question = Question("q1", "sums", "", "5 + 7?", "12")
    >>> print(experience_prompt(question, ["- EXPERIENCE ITEM: Carry the one."]))
    Given previous learned experience:
    # Experience
    - EXPERIENCE ITEM: Carry the one.
    <BLANKLINE>
    Solve the new problem and explain what part of experience you use and how you use it in the reasoning process:
    5 + 7?

    Added in version 0.2.0.
    """  # noqa: E501
    shown = "\n".join(items) if items else _NONE
    return (
        f"Given previous learned experience:\n# Experience\n{shown}\n\n"
        "Solve the new problem and explain what part of experience you use and how you use it in "
        f"the reasoning process:\n{question.prompt}"
    )
