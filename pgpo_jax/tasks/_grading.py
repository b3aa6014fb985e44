from typing import NamedTuple


class Grade(NamedTuple):
    """What a grader says of one response.

    Attributes:
        score: finite; 1.0 for a right answer and 0.0 for a wrong one, or anything between.
        prediction: the text that was compared with the answer; may be empty.
        feedback: words for the teacher prompt on what was wrong; empty if there are none.
    """

    score: float
    prediction: str = ""
    feedback: str = ""


def extract_answer(response: str) -> str:
    """The text that a response offers as its answer.

    It is what follows the last `<answer>` (the whole text if there is none), up to the first
    `</answer>`, without surrounding white space: the rule of the SDPO reference code.

    >>> extract_answer("<answer>A</answer> no: <answer> C </answer>")
    'C'
    """
    return response.rpartition("<answer>")[2].partition("</answer>")[0].strip()


def grade(response: str, answer: str) -> Grade:
    """Scores a response by exact match; the text is only ever compared, never interpreted.

    Args:
        response: the decoded response.
        answer: the right answer, e.g. an option letter. Comparison is case-sensitive.

    Returns:
        The `Grade`. There is neither a reward nor a penalty for the format.

    >>> grade("<reasoning>6 * 7</reasoning><answer>C</answer>", "C").score
    1.0
    """
    prediction = extract_answer(response)
    return Grade(float(prediction == answer), prediction)
