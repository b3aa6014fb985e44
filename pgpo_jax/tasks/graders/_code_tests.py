import ast
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._question import Question

_ALIASES = ("tests", "test_list", "test")
_SETUP = "test_setup_code"
_ENTRY = "entry_point"


class Pair(NamedTuple):
    """A test of a whole program: its input and the expected output."""

    input: str
    output: str


def tests_of(question: Question) -> list[str] | list[Pair]:
    """The tests of a question, from its columns `tests`, `test_list` or `test`.

    Args:
        question: question with the column. It holds Python statements, as one string or several, or
            mappings with `input` and `output`. Of the statements each `assert` and each call is a
            test. The column `test_setup_code` may hold code that runs before them. If a single
            string defines `check(candidate)`, it is called with the function that `entry_point`
            names.

    Returns:
        Statements in their order, with the set-up first, or pairs of input and output.

    Raises:
        ValueError: there is not exactly one such column, or its contents are none of these, are no
            Python, or test nothing.

    >>> rows = {"tests": ["assert add(1, 2) == 3"], "test_setup_code": "import math"}
    >>> tests_of(Question("q", "code", "", "Add.", "", columns=rows))
    ['import math', 'assert add(1, 2) == 3']

    Added in version 0.2.0.
    """
    where = f"question {question.id!r}"
    present = [name for name in _ALIASES if _filled(question.columns.get(name))]
    if len(present) != 1:
        raise PGPOValueError(
            f"the grader 'code' needs tests in one of the columns {list(_ALIASES)}; {where} has "
            f"{present or 'none of them'}"
        )
    where = f"column {present[0]!r} of {where}"
    value = question.columns[present[0]]
    tests: list[Any] = [value] if isinstance(value, str | Mapping) else list(value)
    if all(isinstance(test, Mapping) for test in tests):
        return [_pair(test, where) for test in tests]
    if not all(isinstance(test, str) for test in tests):
        kinds = sorted({type(test).__name__ for test in tests})
        raise PGPOValueError(
            f"{where} must hold Python statements, or mappings with 'input' and 'output', got "
            f"{' and '.join(kinds)}"
        )
    return _statements(tests, question.columns, where)


def count_tests(statements: Sequence[str]) -> int:
    """The number of tests among these statements: assertions and calls at the outer level."""
    parsed = [statement for text in statements for statement in ast.parse(text).body]
    return sum(map(_is_test, parsed))


def _is_test(statement: ast.stmt) -> bool:
    call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    return isinstance(statement, ast.Assert) or call


def _filled(value: Any) -> bool:
    return isinstance(value, str | Sequence | Mapping | np.ndarray) and len(value) > 0


def _pair(test: Mapping[str, Any], where: str) -> Pair:
    pair = test.get("input"), test.get("output")
    if not isinstance(pair[0], str) or not isinstance(pair[1], str):
        raise PGPOValueError(
            f"{where} must hold mappings with the strings 'input' and 'output', got {dict(test)!r}"
        )
    return Pair(pair[0], pair[1])


def _statements(tests: list[str], columns: Mapping[str, Any], where: str) -> list[str]:
    setup = columns.get(_SETUP) or ""
    entry = columns.get(_ENTRY) or ""
    if entry:
        tests = [*tests, f"check({entry})"]
    try:
        count = count_tests(tests)
        ast.parse(setup)
    except (SyntaxError, ValueError, TypeError) as error:
        raise PGPOValueError(f"{where} must hold Python statements: {error}") from error
    if not count:
        raise PGPOValueError(
            f"{where} must assert or call something, or nothing would be tested; a function "
            f"check(candidate) also needs the column {_ENTRY!r}"
        )
    return [setup, *tests] if setup else tests
