from typing import NamedTuple


class Grade(NamedTuple):
    """The grade of one response.

    Attributes:
        score: a finite number: 1.0 for a right answer, 0.0 for a wrong one, or a value between.
        prediction: the text that was compared with the answer. It may be empty.
        feedback: text for the teacher prompt about the error; empty if there is none.
    """

    score: float
    prediction: str = ""
    feedback: str = ""


def extract_answer(response: str) -> str:
    """The text that a response offers as its answer.

    It is the text after the last `<answer>`, or the whole text without one, up to the first
    `</answer>` and without surrounding white space. This is the rule of the SDPO reference code.

    >>> extract_answer("<answer>A</answer> no: <answer> C </answer>")
    'C'
    """
    return response.rpartition("<answer>")[2].partition("</answer>")[0].strip()


def grade(response: str, answer: str) -> Grade:
    """Grade a response by exact match. The text is compared, never interpreted.

    Args:
        response: the decoded response.
        answer: the right answer, such as an option letter. The comparison is case-sensitive.

    Returns:
        The `Grade`. The format is neither rewarded nor penalised.

    >>> grade("<reasoning>6 * 7</reasoning><answer>C</answer>", "C").score
    1.0
    """
    prediction = extract_answer(response)
    return Grade(float(prediction == answer), prediction)
