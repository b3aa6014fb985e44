import re

from pgpo_jax.tasks._grading import Grade, extract_answer
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.graders._exact import letter

_LEAD = r"(?:(?:the|my)\s+)?(?:(?:correct|right|final|best)\s+)?(?:answer|option|choice)(?:\s+is)?"
# A letter that a word follows is an article ("A particle"), so only signs may stand behind it.
_OPTION = re.compile(rf"\W*(?i:(?:{_LEAD})\W*)*([A-Z])(?=$|[^\w\s'’]|\s*\n|\s*$)")


def option(question: Question, response: str) -> Grade:
    """Right if the response begins with the right option letter, in whatever form.

    For models that name an option and keep to no format. Brackets, asterisks and words such as "The
    answer is" may stand before the letter; a sign, a new line or nothing must follow it. A letter
    before a word is none: "A particle" begins with an article. Case counts.

    Args:
        question: its `answer` must be one letter, A to Z.
        response: the decoded response; see `extract_answer` for what of it counts.

    Returns:
        1.0 or 0.0. The prediction is the letter. Where none can be read, it is empty, and the
        feedback says so.

    Raises:
        ValueError: if the answer of the question is not one letter.

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
