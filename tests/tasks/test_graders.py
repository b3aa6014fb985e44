"""Graders by name, functions of users, weights, and the guard around them."""

import logging
import subprocess
import sys
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax.errors import PGPORuntimeError, PGPOTypeError, PGPOValueError
from pgpo_jax.tasks import Grade, Question, grade
from pgpo_jax.tasks.graders import (
    GRADERS,
    FailedGrade,
    FunctionGrader,
    Grader,
    GraderConfig,
    TimedOutGrade,
    WeightedGrader,
    as_grade,
    exact,
    grade_all,
    letter,
    make_grader,
    parse_weights,
    weighted,
)

QUESTION = Question("q7", "physics", "", "Which?", "B")
TEXTS = ["B", " B ", "<answer>B</answer>", "<answer>\nB", "b", "B.", "<answer>A</answer>", "", "BB"]


@pytest.mark.parametrize("name", ["auto", "letter", "exact"])
@pytest.mark.parametrize("text", TEXTS)
def test_letters_are_graded_as_ever(name, text):
    result = make_grader(name)(QUESTION, text)
    assert result == grade(text, "B")
    assert type(result) is Grade


def test_exact_takes_any_string_and_letter_does_not():
    question = Question("q", "history", "", "Who?", " Ada Lovelace\n")
    assert exact(question, "<answer>Ada Lovelace</answer>").score == 1.0
    assert exact(question, "<answer>Ada  Lovelace</answer>").score == 0.0
    with pytest.raises(PGPOValueError, match=r"one letter, A to Z; that of question 'q' is ' Ada"):
        letter(question, "A")


@pytest.mark.parametrize("name", [name for name in GRADERS if name != "code"])
def test_every_grader_is_one(name):
    assert isinstance(make_grader(name), Grader)


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(PGPOValueError, match=r"\['auto', 'letter', .*FILE\.py:NAME.* got 'leter'"):
        make_grader("leter")


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("timeout", 0.0, "positive"),
        ("timeout", float("nan"), "positive"),
        ("memory", -1, "positive"),
        ("file_size", 0, "positive"),
        ("workers", 0, "positive"),
        ("relative_tolerance", -0.1, "not negative"),
        ("relative_tolerance", 1.0, "less than 1"),
        ("absolute_tolerance", float("inf"), "finite"),
        ("name", " ", "not empty"),
    ],
)
def test_settings_are_checked(field, value, rule):
    with pytest.raises(PGPOValueError, match=rf"GraderConfig\.{field} must be .*{rule}.*got"):
        GraderConfig(**{field: value})


def test_a_misspelt_rule_for_units_is_refused():
    # Around the type checks that these tests run with.
    settings = GraderConfig()
    object.__setattr__(settings, "units", "si")
    with pytest.raises(PGPOValueError, match=r"GraderConfig\.units must be one of .* got 'si'"):
        settings.__post_init__()


# What rewards return.


@pytest.mark.parametrize(
    "value",
    [
        *(1, True, 1.0, np.float32(1), np.int64(1), np.array(1.0), jnp.array(1.0)),
        *(Grade(1.0), Grade(np.float32(1))),
        *({"score": 1}, {"score": np.array(1), "feedback": "", "prediction": ""}),
    ],
)
def test_numbers_grades_and_mappings_are_grades(value):
    result = as_grade(value)
    assert result == Grade(1.0, "", "")
    assert type(result.score) is float


def test_words_are_kept():
    assert as_grade({"score": 0.5, "feedback": "f", "prediction": "p"}) == Grade(0.5, "p", "f")
    failed = FailedGrade(0.0, "", "why")
    assert as_grade(failed) is failed


async def asynchronous(question, response):
    return 1.0


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, PGPOTypeError, "got NoneType"),
        ("1.0", PGPOTypeError, "got str: '1.0'"),
        ([1.0], PGPOTypeError, r"got list: \[1.0\]"),
        (np.array([1.0]), PGPOTypeError, r"got ndarray of shape \(1,\)"),
        (1j, PGPOTypeError, "got complex"),
        (float("nan"), PGPOValueError, "finite, got nan"),
        (jnp.array(jnp.inf), PGPOValueError, "finite, got inf"),
        (Grade(float("-inf")), PGPOValueError, "finite, got -inf"),
        ({"feedback": "f"}, PGPOValueError, r"'score'.*keys \['feedback'\]"),
        ({"score": 1, "reason": "r"}, PGPOValueError, r"keys \['reason', 'score'\]"),
        ({"score": 1, "feedback": None}, PGPOTypeError, "feedback .* must be a str, got NoneType"),
    ],
)
def test_what_is_no_grade_names_its_type(value, error, message):
    with pytest.raises(error, match=message):
        as_grade(value)


def test_an_asynchronous_reward_is_named():
    coroutine = asynchronous(None, None)
    with pytest.raises(PGPOTypeError, match=r"got coroutine$"):
        as_grade(coroutine)
    coroutine.close()


def test_a_function_of_a_file(tmp_path):
    path = tmp_path / "rewards.py"
    path.write_text("def brevity(question, response): return {'score': 1 / len(response)}\nx = 3\n")
    grader = make_grader(f"{path}:brevity")
    assert grader(QUESTION, "abcd").score == 0.25
    with pytest.raises(PGPOTypeError, match=r"rewards\.py:x is int"):
        make_grader(f"{path}:x")


def test_a_function_must_take_a_question_and_a_response():
    with pytest.raises(PGPOTypeError, match=r"does not fit one\(response\)"):
        FunctionGrader(lambda response: 1.0, "one")


# Weights.


def test_weights_add_up_and_words_are_joined():
    first = FunctionGrader(lambda q, r: {"score": 1.0, "prediction": "p", "feedback": "one"})
    second = FunctionGrader(lambda q, r: {"score": 0.5, "prediction": "x", "feedback": "two"})
    silent = FunctionGrader(lambda q, r: 1.0)
    grader = WeightedGrader([(first, 0.8), (second, 0.4), (silent, -0.25)])
    assert grader(QUESTION, "") == Grade(pytest.approx(0.75), "p", "one\ntwo")
    assert grader.grade_many([QUESTION], [""]) == [grader(QUESTION, "")]


def test_weights_on_the_command_line(tmp_path):
    path = tmp_path / "rewards.py"
    path.write_text("def brevity(question, response): return 0.5\n")
    grader = make_grader(f"exact=0.75, {path}:brevity=0.5")
    assert grader(QUESTION, "B").score == 1.0
    assert grader(QUESTION, "A").score == 0.25
    assert weighted({"exact": 3.0})(QUESTION, "B").score == 3.0


@pytest.mark.parametrize(
    "spec",
    ["exact,letter", "exact=1,exact=2", "exact=a", "=1", "exact=1,", "exact=nan", "exact=1,b"],
)
def test_weights_that_are_none(spec):
    with pytest.raises(PGPOValueError, match="NAME=WEIGHT,NAME=WEIGHT"):
        parse_weights(spec)


def test_a_weight_of_zero_is_refused():
    with pytest.raises(PGPOValueError, match="finite and not zero, got 0"):
        make_grader("exact=0,letter=1")
    with pytest.raises(PGPOValueError, match="at least one"):
        weighted({})


def test_a_part_that_fails_fails_its_row_only():
    def reward(question, response):
        return 1 / len(response)

    grader = WeightedGrader([(exact, 1.0), (reward, 1.0)])
    grades, failures = grade_all(grader, [QUESTION] * 2, ["B", ""])
    assert ([g.score for g in grades], failures) == ([2.0, 0.0], 1)
    assert "ZeroDivisionError" in grades[1].feedback


# The guard.


def test_rows_that_fail_are_counted_and_logged(caplog):
    returned = iter([1.0, float("nan"), [1.0], "raise", 0.5, None, None])

    def reward(question, response):
        value = next(returned)
        if value == "raise":
            raise KeyError("absent")
        return value

    questions = [Question(f"q{i}", "", "", "?", "") for i in range(7)]
    with caplog.at_level(logging.WARNING, "pgpo_jax"):
        grades, failures = grade_all(reward, questions, ["x"] * 7)
    assert [grade.score for grade in grades] == [1.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0]
    assert failures == 5
    assert [isinstance(g, FailedGrade) for g in grades] == [0, 1, 1, 1, 0, 1, 1]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4
    assert "question q1" in lines[0]
    assert "finite, got nan" in lines[0]
    assert "KeyError: 'absent'" in lines[2]
    assert "test_graders.py, line" in lines[2]
    assert lines[3] == "2 more responses were not graded"


def test_rows_that_do_not_fail_are_not_logged(caplog):
    grades, failures = grade_all(exact, [QUESTION] * 2, ["B", "A"])
    assert ([grade.score for grade in grades], failures) == ([1.0, 0.0], 0)
    assert not caplog.records


def test_a_task_is_a_grader_too():
    class Task:
        def questions(self, split, seed):
            return [QUESTION]

        def grade(self, question, response):
            return Grade(0.25, response)

    assert grade_all(Task(), [QUESTION], ["x"]) == ([Grade(0.25, "x")], 0)


def broken(question, response):
    raise ValueError("always")


def test_a_reward_that_never_works_stops_the_run():
    with pytest.raises(PGPORuntimeError, match=r"none of 3 .* question q7: ValueError: always"):
        grade_all(broken, [QUESTION] * 3, ["a", "b", "c"])
    # One row alone says little, and time-outs are due to the responses.
    assert grade_all(broken, [QUESTION], ["a"])[1] == 1

    class Slow:
        def __call__(self, question, response):
            raise NotImplementedError

        def grade_many(self, questions, responses):
            return [TimedOutGrade(0.0)] * len(responses)

    assert grade_all(Slow(), [QUESTION] * 2, ["a", "b"])[1] == 2


def test_grade_many_must_return_a_grade_for_each():
    class Short:
        def __call__(self, question, response):
            raise NotImplementedError

        def grade_many(self, questions, responses):
            return [Grade(1.0)]

    with pytest.raises(PGPOValueError, match="each of 2 responses, got 1"):
        grade_all(Short(), [QUESTION] * 2, ["a", "b"])


def test_questions_and_responses_must_match():
    with pytest.raises(PGPOValueError, match="got 2 and 1"):
        grade_all(exact, [QUESTION] * 2, ["B"])


def test_a_reward_that_takes_too_long_stops_the_run():
    release = threading.Event()

    def reward(question, response):
        if response == "slow":
            release.wait(60)
        return 1.0

    began = time.monotonic()
    questions = [QUESTION, Question("q8", "", "", "?", ""), QUESTION]
    with pytest.raises(PGPORuntimeError, match=r"timeout = 0\.2 s on question q8"):
        grade_all(reward, questions, ["", "slow", ""], timeout=0.2)
    assert time.monotonic() - began < 10
    release.set()
    # The limit is one of a row, not of all: many rows may take longer together.
    assert (
        grade_all(lambda q, r: time.sleep(0.1) or 1.0, [QUESTION] * 4, [""] * 4, timeout=0.3)[1]
        == 0
    )


def test_a_reward_that_exits_ends_the_run():
    with pytest.raises(SystemExit):
        grade_all(lambda q, r: sys.exit(2), [QUESTION], [""])


def test_importing_graders_is_light():
    heavy = ["sympy", "math_verify", "pint", "flax", "transformers"]
    code = f"import pgpo_jax.tasks.graders, sys; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
