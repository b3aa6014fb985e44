"""Numbers with tolerances and units."""

import re
import sys
from fractions import Fraction

import pytest

from pgpo_jax.errors import PGPOImportError, PGPOValueError
from pgpo_jax.tasks import Question
from pgpo_jax.tasks.graders import (
    GraderConfig,
    NumericGrader,
    grade_all,
    make_grader,
    parse_quantity,
)


def question(answer):
    return Question("q", "physics", "", "How much?", answer)


def graded(answer, response, **settings):
    return NumericGrader(GraderConfig(**settings))(question(answer), response)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("-2.5", "-5/2", ""),
        (".5", "1/2", ""),
        ("1e-3", "1/1000", ""),
        ("1.2 × 10^4 J", "12000", "J"),
        ("2 x 10^3", "2000", ""),
        (r"$1.2 \times 10^{-4}\,\mathrm{m/s}$", "3/25000", "m/s"),
        ("10^5", "100000", ""),
        ("3/4", "3/4", ""),
        (r"-\frac{3}{4}", "-3/4", ""),
        ("12,500 kg", "12500", "kg"),
        ("1,000,000.5", "2000001/2", ""),
        ("2+3=5", "5", ""),
        ("The answer is -3.", "-3", ""),
        ("x = - 3", "-3", ""),
        ("−4", "-4", ""),
        ("CO2 weighs 44 g/mol", "44", "g/mol"),
        ("9 m^2", "9", "m^2"),
        ("3 m s⁻¹", "3", "m s^-1"),
        ("12.5 m/s, which is fast", "25/2", "m/s"),
        (r"9.81 \frac{m}{s^2}", "981/100", "m/s^2"),
        ("2 kg/(m s)", "2", "kg/(m s)"),
        ("20 °C", "20", "°C"),
        (r"20^\circ C", "20", "°C"),
        (r"50 \%", "50", "%"),
        (r"$\boxed{7}$", "7", ""),
    ],
)
def test_what_is_read(text, value, unit):
    quantity = parse_quantity(text)
    assert quantity is not None
    assert quantity[:2] == (Fraction(value), unit)


@pytest.mark.parametrize(
    "text",
    [
        *("", "none", "12,5", "1,2345", "1 1/2", "2 + 3", "5-3", "2π", r"2\sqrt{3}", "2 pi"),
        *("5 ± 1", "1/0", "1.2.3", "12/5/2024", "H2O", "9" * 101, "1e401", "1e99999999999"),
    ],
)
def test_what_is_not_clear(text):
    assert parse_quantity(text) is None


ROWS = [
    ("42", "<answer>42</answer>", 1.0),
    ("42", "<answer>43</answer>", 0.0),
    ("1/3", "<answer>2/6</answer>", 1.0),
    ("1500", "It makes 1,500", 1.0),
    ("1e-3", "<answer>0.001</answer>", 1.0),
    ("-7", "<answer>7</answer>", 0.0),
    ("12.5 m/s", "<answer>12.5 m/s</answer>", 1.0),
    ("12.5 m/s", "<answer>12.5 km/s</answer>", 0.0),
    ("18", "<answer>18 dollars</answer>", 1.0),
    ("0.5", "<answer>half</answer>", 0.0),
]


def test_ten_rows():
    questions = [question(answer) for answer, _, _ in ROWS]
    grades, failures = grade_all(make_grader("numeric"), questions, [row[1] for row in ROWS])
    assert [grade.score for grade in grades] == [row[2] for row in ROWS]
    assert failures == 0
    assert [not grade.feedback for grade in grades] == [grade.score == 1.0 for grade in grades]


@pytest.mark.parametrize(
    ("response", "settings", "score"),
    [
        ("101", {}, 0.0),
        ("101", {"relative_tolerance": 0.01}, 1.0),
        ("101.01", {"relative_tolerance": 0.01}, 0.0),
        ("99", {"relative_tolerance": 0.01}, 1.0),
        ("98.9", {"relative_tolerance": 0.01}, 0.0),
        ("102", {"absolute_tolerance": 2.0}, 1.0),
        ("102.1", {"absolute_tolerance": 2.0}, 0.0),
        ("100.00001", {"relative_tolerance": 0.0}, 0.0),
    ],
)
def test_the_tolerance_is_the_larger_of_both(response, settings, score):
    assert graded("100", response, **settings).score == score


def test_long_integers_are_compared_exactly():
    answer = "12345678901234567890"
    assert graded(answer, answer, relative_tolerance=0.0).score == 1.0
    assert graded(answer, "12345678901234567891", relative_tolerance=0.0).score == 0.0


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ("no idea", "No clear number"),
        ("12,5 m/s", "No clear number"),
        ("12.5", "The unit is missing"),
        ("12.5 m", "The unit 'm' is not the right one"),
        ("-12.5 m/s", "The sign of '-12.5' is wrong"),
        ("1250 m/s", "'1250' is wrong by a power of ten"),
        ("13 m/s", "'13' is not within 1 % of the right value"),
    ],
)
def test_the_feedback_says_what_is_wrong_and_not_what_is_right(response, words):
    result = graded("12.5 m/s", response, relative_tolerance=0.01)
    assert words in result.feedback
    # The right number appears only where the response itself has it.
    leaked = re.search(r"12\.5", result.feedback.replace(response.split()[0], ""))
    assert leaked is None
    assert "m/s" not in result.feedback


@pytest.mark.parametrize(
    ("rule", "scores"),
    [
        ("required", [1, 0, 0, 0]),
        ("optional", [1, 1, 0, 0]),
        ("ignored", [1, 1, 1, 0]),
        ("convert", [1, 0, 0, 1]),
    ],
)
def test_the_rules_for_units(rule, scores):
    responses = ["1.5 km", "1.5", "1.5 s", "1500 m"]
    assert [graded("1.5 km", text, units=rule).score for text in responses] == scores


@pytest.mark.parametrize(
    ("answer", "response", "score"),
    [
        ("20 °C", "293.15 K", 1.0),
        ("5 N", "5 kg m/s²", 1.0),
        ("5 m", "500 centimeters", 1.0),
        ("5 m", "500 foo", 0.0),
        ("5 m", "5 " + "m" * 41, 0.0),
        ("5 J", "5 Pa", 0.0),
    ],
)
def test_units_are_converted(answer, response, score):
    assert graded(answer, response, units="convert").score == score


def test_conversion_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pint", None)
    with pytest.raises(PGPOImportError, match=r"pip install 'pgpo-jax\[math\]'"):
        NumericGrader(GraderConfig(units="convert"))
    assert graded("1", "1").score == 1.0


def test_an_answer_that_is_no_number_is_an_error_of_the_data():
    with pytest.raises(PGPOValueError, match="that of question 'q' is 'many'"):
        graded("many", "1")
