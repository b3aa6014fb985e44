"""The grader of tool calls."""

import json

import pytest

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import Question, make_grader

GRADE = make_grader("tool_use")


def question(*calls):
    listed = [{"Action": name, "Action_Input": json.dumps(given)} for name, given in calls]
    return Question("q3", "tools", "", "Rain?", json.dumps(listed))


ONE = question(("weather", {"day": 1}))
TWO = question(("weather", {"day": 1}), ("mail", {"to": "Ada", "cc": True}))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (ONE, 'Thought: look.\nAction: weather\nAction Input: {"day": 1}'),
        (ONE, 'Action:weather\nAction Input:{\n "day":\n 1}'),
        # In any order; what is merged is compared.
        (
            TWO,
            'Action: mail\nAction Input: {"cc": true}\nAction Input: {"to": "Ada"}\n'
            'Action: weather\nAction Input: {"day": 1}',
        ),
        (question(("weather", {})), "Action: weather\nAction Input: {}"),
    ],
)
def test_the_right_calls_are_right(asked, text):
    grade = GRADE(asked, text)
    assert (grade.score, grade.feedback) == (1.0, "")


@pytest.mark.parametrize(
    ("asked", "text", "feedback"),
    [
        (
            ONE,
            'Action: weather\nAction Input: {"day": 2}',
            "Action inputs mismatch: predicted {'day': 2}, expected {'day': 1}",
        ),
        (
            ONE,
            'Action: mail\nAction Input: {"day": 1}',
            "Actions mismatch: predicted ['mail'], expected ['weather']",
        ),
        # Twice is not once.
        (
            ONE,
            'Action: weather\nAction: weather\nAction Input: {"day": 1}',
            "Actions mismatch: predicted ['weather', 'weather'], expected ['weather']",
        ),
        (
            ONE,
            "It will rain.",
            "Actions mismatch: predicted [], expected ['weather']; "
            "Action inputs mismatch: predicted {}, expected {'day': 1}",
        ),
        # An input ends at its first brace: one with a dictionary in it is not read, as in SDPO's.
        (
            question(("weather", {"day": {"n": 1}})),
            'Action: weather\nAction Input: {"day": {"n": 1}}',
            "Action inputs mismatch: predicted {}, expected {'day': {'n': 1}}",
        ),
    ],
)
def test_what_differs_is_told(asked, text, feedback):
    grade = GRADE(asked, text)
    assert (grade.score, grade.feedback) == (0.0, feedback)


@pytest.mark.parametrize(
    "answer",
    ["B", "{}", "[1]", '[{"Action": "a"}]', '[{"Action": 1, "Action_Input": "{}"}]',
     '[{"Action": "a", "Action_Input": "no"}]'],
)  # fmt: skip
def test_another_answer_is_refused_by_name(answer):
    with pytest.raises(PGPOValueError, match="question q3: the answer must be a JSON list"):
        GRADE(Question("q3", "tools", "", "Rain?", answer), "Action: a")
