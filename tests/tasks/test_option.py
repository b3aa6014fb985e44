"""The tolerant grader of option letters."""

import pytest

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import Question, make_grader

QUESTION = Question("q7", "physics", "", "Which?", "B")


@pytest.mark.parametrize(
    "text",
    [
        "B",
        " B\n",
        "B.",
        "B: 12 m/s",
        "B)",
        "(B",
        "**B**",
        "Answer: B",
        "The correct answer is: B",
        "the answer is **B**.",
        "Option B",
        "B\nbecause it is",
        "<answer>\nB\n</answer>",
        "A first thought. <answer>(B)</answer>",
    ],
)
def test_a_letter_is_read_in_whatever_form(text):
    grade = make_grader("option")(QUESTION, text)
    assert (grade.score, grade.prediction, grade.feedback) == (1.0, "B", "")


@pytest.mark.parametrize("text", ["A", "C: 12 m/s", "The answer is A.", "E"])
def test_another_letter_is_wrong_and_is_read(text):
    grade = make_grader("option")(QUESTION, text)
    assert (grade.score, grade.feedback) == (0.0, "")
    assert grade.prediction in "ACE"


@pytest.mark.parametrize(
    "text",
    ["", "b", "B particle", "B's", "BB", "Step B", "1. B", "Not B", "To determine", "B2", "The B"],
)
def test_what_begins_otherwise_is_not_read(text):
    grade = make_grader("option")(QUESTION, text)
    assert (grade.score, grade.prediction) == (0.0, "")
    assert grade.feedback == "The answer must begin with the letter of an option."


def test_an_answer_that_is_no_letter_is_refused():
    question = Question("q", "history", "", "Who?", "Ada")
    for text in ("A", "nothing"):
        with pytest.raises(PGPOValueError, match="needs an answer that is one letter"):
            make_grader("option")(question, text)
