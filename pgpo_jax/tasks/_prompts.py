import re

from pgpo_jax.tasks._question import Question

_THINKING = re.compile(r"<think>.*?</think>\s*", re.DOTALL)


def strip_thinking(text: str) -> str:
    """Removes every `<think>...</think>` block and the white space after it.

    >>> strip_thinking("<think>hm</think>\\n<answer>B</answer>")
    '<answer>B</answer>'
    """
    return _THINKING.sub("", text)


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
