import re

from pgpo_jax.tasks._grading import Grade, extract_answer
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.graders._exact import letter

_LEAD = r"(?:(?:the|my)\s+)?(?:(?:correct|right|final|best)\s+)?(?:answer|option|choice)(?:\s+is)?"
# A letter before a word is an article ("A particle"), so only signs may follow an option letter.
_OPTION = re.compile(rf"\W*(?i:(?:{_LEAD})\W*)*([A-Z])(?=$|[^\w\s'’]|\s*\n|\s*$)")


def option(question: Question, response: str) -> Grade:
    """Right if the response begins with the right option letter, in any form.

    This is for models that name an option without a fixed format. Brackets, asterisks and words
    such as "The answer is" may precede the letter. A sign, a new line or nothing must follow it. A
    letter before a word is no option: "A particle" begins with an article. Case matters.

    Args:
        question: question whose `answer` must be one letter, A to Z.
        response: the decoded response. `extract_answer` says which part counts.

    Returns:
        1.0 or 0.0. The prediction is the letter. Without a readable letter it is empty, and the
        feedback says so.

    Raises:
        ValueError: the answer of the question is not one letter.

    >>> question = Question("q", "physics", "", "Which?", "B")
    >>> option(question, "(B) 12 m/s").score, option(question, "A particle").prediction
    (1.0, '')
    """
    found = _OPTION.match(extract_answer(response))
    if found is None:
        return letter(question, "")._replace(
            prediction="", feedback="The answer must begin with the letter of an option."
        )
    return letter(question, found[1])
