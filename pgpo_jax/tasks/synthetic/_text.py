"""The text of a problem and of its solutions."""

from collections.abc import Sequence

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks.synthetic._arithmetic import Calculation
from pgpo_jax.tasks.synthetic._kind import Problem

FORMS = ("letters", "open")
"""The form of an answer: the letter of an option, or the value itself."""
SYSTEM = {
    "letters": "Answer as <reasoning>...</reasoning> and <answer>letter</answer>.",
    "open": "Answer as <reasoning>...</reasoning> and <answer>value</answer>.",
}
"""The system message of each form, which says how to answer."""
GIVEN = "\nGiven:"
"""The beginning of the list of results, with which a question needs a formula and a look-up. A tiny
model can compute only what it has memorised, and it must not see the calculations of the test
split."""
CLOSING = "\nPlease reason step by step."
"""The end of every question."""
OPENERS = ("Take", "Use", "We have")
"""The possible first words of a solution."""


def prompt_text(problem: Problem, form: str) -> str:
    """The user message: the question, its options (form "letters" only) and an instruction.

    Args:
        problem: the problem.
        form: "letters" or "open".

    Returns:
        The message.
    """
    options = ""
    if form == "letters":
        options = "\n" + "".join(
            f"\n{letter}: {value}" for letter, value in zip("ABCD", problem.options, strict=True)
        )
    table = table_text([(method.name, method.value) for method in problem.table])
    return f"{problem.text}{table}{options}{CLOSING}"


def table_text(table: Sequence[tuple[str, int | None]]) -> str:
    """The list of results in a question, each with the name of its calculation.

    Args:
        table: names and results.

    Returns:
        A line that starts with a line break; empty for an empty table.

    >>> table_text([("product", 42), ("sum", 13)])
    '\\nGiven: product 42, sum 13.'
    """
    if not table:
        return ""
    return f"{GIVEN}{','.join(f' {name} {value}' for name, value in table)}."


def solution_text(
    problem: Problem,
    calculation: Calculation,
    form: str = "letters",
    *,
    value: int | None = None,
    opener: str = OPENERS[0],
) -> str:
    """A response in the layout of SciKnowEval that follows one calculation.

    Args:
        problem: the problem.
        calculation: the method that it follows, right or wrong.
        form: "letters" or "open".
        value: the option in the conclusion, if it differs from the result of the calculation.
        opener: first word, one of `OPENERS`.

    Returns:
        The response, without an end token.

    >>> calculation = Calculation(6, "*", 7)
    >>> problem = Problem("force", "physics", "?", (calculation,), (8, 13, 42, 20))
    >>> print(solution_text(problem, calculation))
    <reasoning>Take product 42 [C].</reasoning>
    <answer>C</answer>
    """
    result = calculation.value if value is None else value
    if result is None:
        raise PGPOValueError(f"{calculation} has no whole value, so a conclusion must be given")
    steps = f"{opener} {calculation.name} {result}"
    if form == "open":
        return f"<reasoning>{steps}.</reasoning>\n<answer> {result}</answer>"
    letter = problem.letter(result)
    return f"<reasoning>{steps} [{letter}].</reasoning>\n<answer>{letter}</answer>"
