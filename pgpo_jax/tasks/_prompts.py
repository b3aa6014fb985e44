"""The texts of teacher prompts."""

import re

from pgpo_jax.tasks._question import Question

_TAG = re.compile("<think>|</think>")
_BLANKS = re.compile(r"\s*")


def strip_thinking(text: str) -> str:
    r"""Removes the thinking of a response, and the white space after it.

    A block reaches from `<think>` to its `</think>`; a block inside another one belongs to it. If
    there are fewer ends than beginnings, the last end closes them all. A block without any end
    reaches to the end of the text. An end without a beginning closes a block that the chat
    template opened: everything before it is thinking.

    Args:
        text: a response, of any length; the time is linear in it.

    Returns:
        The rest.

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
            # What was kept so far was thinking, too.
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
    """The user message that turns the model into its own teacher.

    Sections follow the question with nothing else between them, white space as in the runs of
    the SDPO authors. Texts are concatenated, not substituted, so braces in them stay as they are.

    Args:
        question: the question that the student answered.
        solution: a correct response of a peer, or `None`.
        feedback: words on this sample's own attempt; counts only if not blank.

    Returns:
        The message; the plain question if there is neither a solution nor feedback, and then
        the sample carries no teacher signal.
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
