"""Grading, choice of solutions and teacher prompts against the SDPO authors' behaviour."""

import json
import re
from pathlib import Path

import pytest

from pgpo_jax.tasks import (
    Question,
    _prompts,
    grade,
    select_solutions,
    strip_thinking,
    teacher_prompt,
)

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


def lazy(text):
    """How blocks are cut by a regular expression that knows neither depth nor open ends."""
    return re.sub(r"<think>.*?</think>\s*", "", text, flags=re.DOTALL)


BLOCKS = "<think>a\nb</think>\n\n<reasoning>r</reasoning><think>c</think> <answer>B</answer>"


@pytest.mark.parametrize(
    ("text", "rest", "same"),
    [
        (BLOCKS, "<reasoning>r</reasoning><answer>B</answer>", True),
        ("no <b>tags</b>\n", "no <b>tags</b>\n", True),
        # The template opened the block, so the response holds its end only.
        ("secret</think>\n\nB", "B", False),
        ("secret <think>more</think> secret</think> B", "B", False),
        ("B <think>secret", "B ", False),
        ("<think>secret", "", False),
        ("<think>a<think>b</think>secret</think>\nB", "B", False),
        ("<think>I write <think> first.</think>\nB", "B", True),
        ("<think>a<think>b</think> c </think>x<think>secret", "x", False),
    ],
)
def test_thinking_is_cut_however_it_is_written(text, rest, same):
    assert strip_thinking(text) == rest
    # The control: where a plain expression fails.
    assert (lazy(text) == rest) is same


@pytest.mark.parametrize("unit", ["<think>", "</think>", "<think></think>", "</think> \n", "<"])
def test_thinking_is_cut_in_linear_time(unit, monkeypatch):
    # Tags and blanks are looked at once each: counted, since times vary.
    found = []
    pattern = _prompts._BLANKS

    class Counted:
        def match(self, text, place):
            blanks = pattern.match(text, place)
            found.append(blanks.end() - place)
            return blanks

    monkeypatch.setattr(_prompts, "_BLANKS", Counted())
    text = unit * (200_000 // len(unit))
    assert strip_thinking(text) == (text if unit == "<" else "")
    assert sum(found) + len(found) <= len(text)


@pytest.mark.parametrize(
    ("rewards", "groups", "message"),
    [([1, 0], [0], "one shape"), ([float("nan")], [0], "finite")],
)
def test_select_refuses_bad_input(rewards, groups, message):
    with pytest.raises(ValueError, match=message):
        select_solutions(rewards, groups)
