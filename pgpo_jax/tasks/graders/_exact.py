from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._grading import Grade, grade
from pgpo_jax.tasks._question import Question


def exact(question: Question, response: str) -> Grade:
    """Right if the extracted answer is the answer, character for character.

    White space at both ends does not count. Case, inner white space and punctuation do.

    Args:
        question: question whose `answer` may be any string.
        response: the decoded response. `extract_answer` says which part counts.

    Returns:
        1.0 or 0.0, without feedback.

    >>> question = Question("q", "history", "", "Who?", "Ada Lovelace")
    >>> exact(question, "<answer> Ada Lovelace </answer>").score
    1.0
    >>> exact(question, "ada lovelace").score
    0.0

    Added in version 0.2.0.
    """
    return grade(response, question.answer.strip())


def letter(question: Question, response: str) -> Grade:
    """The rule of `exact` for questions whose answer is an option letter.

    Args:
        question: question whose `answer` must be one letter, A to Z.
        response: the decoded response. For the answer "B" only "B" is right, not "b" or "B.".

    Returns:
        1.0 or 0.0, without feedback.

    Raises:
        ValueError: the answer of the question is not one letter.

    >>> letter(Question("q", "physics", "", "Which?", "B"), "<answer>B</answer>").score
    1.0

    Added in version 0.2.0.
    """
    if len(question.answer) != 1 or not "A" <= question.answer <= "Z":
        raise PGPOValueError(
            f"the grader 'letter' needs an answer that is one letter, A to Z; that of question "
            f"{question.id!r} is {question.answer!r} (the grader 'exact' takes any string)"
        )
    return grade(response, question.answer)
