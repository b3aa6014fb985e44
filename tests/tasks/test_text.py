"""Grading, choice of solutions and teacher prompts against the SDPO authors' behaviour."""

import json
from pathlib import Path

import pytest

from pgpo_jax.tasks import Question, grade, select_solutions, strip_thinking, teacher_prompt

CASES = json.loads((Path(__file__).parent / "data" / "sdpo_cases.json").read_text())


@pytest.mark.parametrize("case", CASES["grade"])
def test_grade_agrees_with_the_reference(case):
    result = grade(case["text"], case["gold"])
    assert (result.prediction, result.score, result.feedback) == (case["pred"], case["reward"], "")


@pytest.mark.parametrize("case", CASES["select"])
def test_select_agrees_with_the_reference(case):
    index, mask = select_solutions(
        case["rewards"],
        case["groups"],
        threshold=case["threshold"],
        exclude_self=case["exclude_self"],
    )
    assert index.tolist() == [-1 if demo is None else demo for demo in case["demo"]]
    assert mask.tolist() == [bool(value) for value in case["mask"]]


@pytest.mark.parametrize("case", CASES["template"])
def test_teacher_prompt_agrees_with_the_reference(case):
    question = Question("q", "physics", "", case["prompt"], "B")
    text = teacher_prompt(question, solution=case["solution"], feedback=case["feedback"])
    assert text == case["text"]


def test_solutions_never_cross_groups():
    # A lone success in group 1 must teach neither group 0 nor itself.
    index, mask = select_solutions([0, 1, 0], [0, 1, 0])
    assert index.tolist() == [-1, -1, -1]
    assert not mask.any()


@pytest.mark.parametrize(
    "text", ["{}", "{solution}", "%s %(x)s", "{{ 7*7 }}", "\0", "\\1 \\g<0>", "x" * 1_000_000]
)
def test_hostile_text_is_inert(text):
    question = Question("q", "physics", "", text, "B")
    prompt = teacher_prompt(question, solution=text, feedback=text)
    assert prompt.count(text) >= 3 or len(text) < 3
    assert prompt.startswith(text + "\nCorrect solution:\n\n" + text + "\nThe following")
    assert grade(f"<answer>{text}</answer>", "B").score == 0.0


def test_blank_feedback_is_no_signal():
    question = Question("q", "physics", "", "Q?", "B")
    assert teacher_prompt(question, feedback=" \n") == "Q?"


def test_answers_with_code_are_only_compared():
    bomb = "__import__('os').system('touch pwned') or 9**9**9"
    assert grade(f"<answer>{bomb}</answer>", "2").score == 0.0


def test_strip_thinking_is_not_greedy_and_keeps_reasoning():
    text = "<think>a\nb</think>\n\n<reasoning>r</reasoning><think>c</think> <answer>B</answer>"
    assert strip_thinking(text) == "<reasoning>r</reasoning><answer>B</answer>"
    assert strip_thinking("<think>open") == "<think>open"


@pytest.mark.parametrize(
    ("rewards", "groups", "message"),
    [([1, 0], [0], "one shape"), ([float("nan")], [0], "finite")],
)
def test_select_refuses_bad_input(rewards, groups, message):
    with pytest.raises(ValueError, match=message):
        select_solutions(rewards, groups)
