"""How a problem, and a solution of it, are written."""

from collections.abc import Sequence

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks.synthetic._arithmetic import Calculation
from pgpo_jax.tasks.synthetic._kind import Problem

FORMS = ("letters", "open")
"""How a question is answered: with the letter of an option, or openly with the value."""
SYSTEM = {
    "letters": "Answer as <reasoning>...</reasoning> and <answer>letter</answer>.",
    "open": "Answer as <reasoning>...</reasoning> and <answer>value</answer>.",
}
"""Form -> system message, which says how to answer."""
GIVEN = "\nGiven:"
"""Begins the list of results, so that a question asks for the formula and a look-up. A tiny model
computes only what it knows by heart, and it must not see the test split's calculations before."""
CLOSING = "\nPlease reason step by step."
"""Ends every question."""
OPENERS = ("Take", "Use", "We have")
"""The ways in which a solution may begin."""


def prompt_text(problem: Problem, form: str) -> str:
    """The user message: the question, its options (letters only), a closing instruction.

    Args:
        problem: what is asked.
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
    """The results that a question gives, each under the name of its calculation.

    Args:
        table: names and results.

    Returns:
        A line that starts with a line break; nothing for an empty table.

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
        problem: what is asked.
        calculation: the method followed, right or wrong.
        form: "letters" or "open".
        value: the conclusion, if it shall not be what the calculation gives; an option.
        opener: the first word, one of `OPENERS`.

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
