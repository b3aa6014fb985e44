"""The texts of teacher prompts."""

import re

from pgpo_jax.tasks._question import Question

_TAG = re.compile("<think>|</think>")
_BLANKS = re.compile(r"\s*")


def strip_thinking(text: str) -> str:
    r"""Remove the thinking of a response and the white space after it.

    A block extends from `<think>` to its `</think>`. A block inside another one belongs to it. If
    there are fewer ends than beginnings, the last end closes all of them. A block without an end
    extends to the end of the text. An end without a beginning closes a block that the chat template
    opened, so everything before it is thinking.

    Args:
        text: a response of any length. The time is linear in the length.

    Returns:
        The rest of the response.

    >>> strip_thinking("<think>hm</think>\n<answer>B</answer>")
    '<answer>B</answer>'
    >>> strip_thinking("hm</think>\n<answer>B</answer>"), strip_thinking("B <think>or")
    ('<answer>B</answer>', 'B ')
    """
    kept: list[str] = []
    depth = place = closed = 0
    for tag in _TAG.finditer(text):
        if tag[0] == "<think>":
            if not depth:
                kept.append(text[place : tag.start()])
                closed = 0
            depth += 1
            continue
        if not depth:
            # The text kept so far was thinking, too.
            kept.clear()
        depth = max(depth - 1, 0)
        closed = tag.end()
        if not depth:
            place = _after_blanks(text, closed)
    if not depth:
        kept.append(text[place:])
    elif closed:
        kept.append(text[_after_blanks(text, closed) :])
    return "".join(kept)


def _after_blanks(text: str, place: int) -> int:
    blanks = _BLANKS.match(text, place)
    return place if blanks is None else blanks.end()


def teacher_prompt(
    question: Question, *, solution: str | None = None, feedback: str | None = None
) -> str:
    """The user message with which the model becomes its own teacher.

    The sections follow the question directly, with the white space of the SDPO authors' runs. Texts
    are concatenated, not substituted, so braces in them do not change.

    Args:
        question: the question that the student answered.
        solution: a correct response of a peer, or `None`.
        feedback: text about this sample's own attempt. Blank text does not count.

    Returns:
        The message. Without a solution and feedback it is the plain question, and the sample has no
        teacher signal.
    """
    parts = [question.prompt]
    if solution is not None:
        parts.append(f"\nCorrect solution:\n\n{solution}")
    if feedback is not None and feedback.strip():
        parts.append(
            "\nThe following is feedback from your unsuccessful earlier attempt:\n\n" + feedback
        )
    if len(parts) > 1:
        parts.append("\n\nCorrectly solve the original question.")
    return "".join(parts)
