import json
import re
from collections import Counter
from typing import Any

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._question import Question

_ACTION = re.compile(r"Action:\s*(\w+)")
_INPUT = re.compile(r"Action Input:\s*(\{.*?\})", re.DOTALL)


def tool_use(question: Question, response: str) -> Grade:
    """Right if the response calls the right tools with the right inputs (SDPO's tool-use task).

    The words after each `Action:` must be those of the answer, in any order. The dictionaries after
    each `Action Input:` are merged. The result must equal the merged dictionaries of the answer. An
    input ends at its first closing brace, as in SDPO's grader, so a nested dictionary is not read.
    The feedback contains the expected calls, so it shows the right answer to a teacher.

    Args:
        question: question whose `answer` is a JSON list of objects with `Action` and
            `Action_Input`. The latter is a JSON object or its text.
        response: the whole decoded response.

    Returns:
        1.0 or 0.0, with the differences as feedback. The prediction is the actions and the merged
        input.

    Raises:
        ValueError: the answer of the question is no such list.

    References:
        SDPO's code, https://github.com/lasgroup/SDPO at 0e6d510
        (verl/utils/reward_score/feedback/tooluse.py).

    >>> answer = '[{"Action": "weather", "Action_Input": "{\\\\"day\\\\": 1}"}]'
    >>> question = Question("q", "tools", "", "Rain tomorrow?", answer)
    >>> tool_use(question, 'Action: weather\\nAction Input: {"day": 1}').score
    1.0
    >>> tool_use(question, 'Action: weather\\nAction Input: {"day": 2}').feedback
    "Action inputs mismatch: predicted {'day': 2}, expected {'day': 1}"
    """
    actions, inputs = _expected(question)
    called = _ACTION.findall(response)
    given: dict[str, Any] = {}
    for text in _INPUT.findall(response):
        given |= _object(text) or {}
    problems = []
    if Counter(called) != Counter(actions):
        problems.append(f"Actions mismatch: predicted {called}, expected {actions}")
    if given != inputs:
        problems.append(f"Action inputs mismatch: predicted {given}, expected {inputs}")
    return Grade(float(not problems), f"{called} {given}", "; ".join(problems))


def _expected(question: Question) -> tuple[list[str], dict[str, Any]]:
    try:
        calls = json.loads(question.answer)
    except ValueError:
        calls = None
    actions: list[str] = []
    inputs: dict[str, Any] = {}
    for call in calls if isinstance(calls, list) else [None]:
        action = call.get("Action") if isinstance(call, dict) else None
        given = call.get("Action_Input") if isinstance(call, dict) else None
        given = _object(given) if isinstance(given, str) else given
        if not isinstance(action, str) or not isinstance(given, dict):
            raise PGPOValueError(
                f"question {question.id}: the answer must be a JSON list of objects with a name "
                "Action and an object Action_Input for the grader tool_use, "
                f"got {question.answer!r:.80}"
            )
        actions.append(action)
        inputs |= given
    return actions, inputs


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
