from fractions import Fraction
from typing import Any

from pgpo_jax.errors import PGPOImportError, PGPOValueError
from pgpo_jax.tasks._grading import Grade, extract_answer
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.graders._config import GraderConfig
from pgpo_jax.tasks.graders._numbers import Quantity, parse_quantity

# Long enough for any unit, so that pint reads no long text of a model.
_LONGEST_UNIT = 40
_POWERS = range(-12, 13)


class NumericGrader:
    """Right if the last number of the extracted answer is within tolerance and has the right unit.

    A prediction p is within tolerance of the answer a if
    `|p - a| <= max(relative * |a|, absolute)`. Numbers are compared exactly, as fractions. Units
    count only if the answer has one. They are compared as text, after normalisation of white space,
    LaTeX and the signs for times and powers. A per cent is a unit, too. `parse_quantity` defines
    what is read.

    The feedback names the error and never the right answer. Errors are: no clear number, a missing
    or wrong unit, a wrong sign, a wrong power of ten, or a wrong number.

    >>> grader = NumericGrader(GraderConfig(relative_tolerance=0.01))
    >>> speed = Question("q", "physics", "", "How fast?", "12.5 m/s")
    >>> [grader(speed, text).score for text in ("<answer>12.6 m/s</answer>", "12.6 km/s")]
    [1.0, 0.0]
    >>> grader(speed, "-12.5 m/s").feedback
    "The sign of '-12.5' is wrong."

    Added in version 0.2.0.
    """

    def __init__(self, settings: GraderConfig = GraderConfig()) -> None:  # noqa: B008
        """A grader with the tolerances and the rule for units of `settings`.

        Raises:
            ImportError: units are to be converted and pint is not installed.
        """
        self._settings = settings
        self._registry = _unit_registry() if settings.units == "convert" else None

    def __call__(self, question: Question, response: str) -> Grade:
        """The grade of one response.

        Args:
            question: question whose `answer` must be a number, with or without a unit.
            response: the decoded response.

        Returns:
            1.0 or 0.0, with the error as feedback.

        Raises:
            ValueError: the answer of the question is not a number.
        """
        answer = parse_quantity(question.answer)
        if answer is None:
            raise PGPOValueError(
                f"the grader 'numeric' needs an answer that is a number; that of question "
                f"{question.id!r} is {question.answer!r}"
            )
        prediction = extract_answer(response)
        quantity = parse_quantity(prediction)
        if quantity is None:
            return Grade(0.0, prediction, "No clear number was found in the answer.")
        value, problem = self._in_unit(quantity, answer.unit)
        problem = problem or self._difference(value, answer.value, quantity.text)
        return Grade(float(not problem), prediction, problem)

    def _in_unit(self, quantity: Quantity, unit: str) -> tuple[Fraction, str]:
        """The value in the unit of the answer, and the error of its own unit."""
        rule = self._settings.units
        if not unit or rule == "ignored" or quantity.unit == unit:
            return quantity.value, ""
        if not quantity.unit:
            return quantity.value, "" if rule == "optional" else "The unit is missing."
        wrong = f"The unit {quantity.unit[:_LONGEST_UNIT]!r} is not the right one."
        if self._registry is None or len(quantity.unit) > _LONGEST_UNIT:
            return quantity.value, wrong
        try:
            given = self._registry.Quantity(
                quantity.value, self._registry.parse_units(quantity.unit)
            )
            return Fraction(given.to(self._registry.parse_units(unit)).magnitude), ""
        # The parser of units raises many kinds of errors for words that are no units.
        except Exception:
            return quantity.value, wrong

    def _difference(self, value: Fraction, right: Fraction, text: str) -> str:
        if self._near(value, right):
            return ""
        if right and self._near(-value, right):
            return f"The sign of {text!r} is wrong."
        if value and right and any(self._near(value * Fraction(10) ** k, right) for k in _POWERS):
            return f"{text!r} is wrong by a power of ten."
        return f"{text!r} is not within {self._tolerance()} of the right value."

    def _near(self, value: Fraction, right: Fraction) -> bool:
        relative = Fraction(self._settings.relative_tolerance) * abs(right)
        return abs(value - right) <= max(relative, Fraction(self._settings.absolute_tolerance))

    def _tolerance(self) -> str:
        relative, absolute = self._settings.relative_tolerance, self._settings.absolute_tolerance
        parts = [f"{100 * relative:g} %"] if relative or not absolute else []
        return " or ".join([*parts, f"{absolute:g}"] if absolute else parts)


def _unit_registry() -> Any:
    try:
        import pint
    except ImportError as error:
        raise PGPOImportError(
            "GraderConfig.units = 'convert' needs pint: pip install 'pgpo-jax[math]'"
        ) from error
    # pint's annotations say float, but it accepts any number.
    exact: Any = Fraction
    return pint.UnitRegistry(non_int_type=exact)
