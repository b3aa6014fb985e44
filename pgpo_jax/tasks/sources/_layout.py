"""Finds the roles of the columns of a table."""

from collections.abc import Mapping, Sequence

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks.sources._columns import ColumnsConfig
from pgpo_jax.tasks.sources._table import Row

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "question": ("question", "prompt", "problem", "instruction", "query"),
    "messages": ("messages", "conversations"),
    "answer": (
        "answer",
        "final_answer",
        "ground_truth",
        "target",
        "reference_answer",
        "expected_answer",
    ),
    "id": ("id", "idx"),
    "system": ("system", "system_prompt"),
    "domain": ("domain",),
    "kind": ("kind",),
    "solution": ("solution",),
    "demonstration": ("demonstration",),
    "feedback": ("feedback",),
}
TESTS = ("tests", "test_list", "test")
# A row has one of these roles.
_ALTERNATIVES = (("question", "messages"), *((r,) for r in USUAL_NAMES if r[0] not in "qm"))


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The names of all columns of any row, in the order of appearance."""
    return list(
        dict.fromkeys(name for row in rows if isinstance(row.value, dict) for name in row.value)
    )


def find_columns(names: Sequence[str], columns: ColumnsConfig, source: str) -> Mapping[str, str]:
    """The column of each role, for roles with a column.

    Args:
        names: names of all columns.
        columns: columns that the user named; the usual names decide the others.
        source: name of the source, for messages.

    Raises:
        PGPOValueError: a named column that no row has, two columns for one role, no question, or
            neither answers nor tests. The message lists all errors.
    """
    chosen = columns.chosen()
    problems = [
        f"--columns.{role} names {name!r}, which no row has"
        for role, name in chosen.items()
        if name and name not in names
    ]
    found: dict[str, str] = {}
    for roles in _ALTERNATIVES:
        named = {role: chosen[role] for role in roles if chosen.get(role)}
        if not named:
            usual = _usual(roles, names, chosen)
            if len(usual) > 1:
                flags = " or ".join(f"--columns.{role}" for role in dict(usual))
                candidates = " and ".join(repr(name) for _, name in usual)
                problems.append(
                    f"both {candidates} could hold the {roles[0]}: name one with {flags}"
                )
            named = dict(usual[:1])
        found |= named
    if "question" not in found and "messages" not in found:
        problems.append(
            "no column could hold the question: name one with --columns.question or "
            "--columns.messages"
        )
    if "answer" not in found and "answer" not in chosen and not set(TESTS) & set(names):
        problems.append("no column could hold the answer: name one with --columns.answer")
    if problems:
        raise PGPOValueError(f"{source}: {'; '.join(problems)}; the columns are {list(names)}")
    return found


def _usual(
    roles: Sequence[str], names: Sequence[str], chosen: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Role and column of each usual name that exists and has no other role by a flag."""
    return [
        (role, name)
        for role in roles
        if role not in chosen
        for name in USUAL_NAMES[role]
        if name in names and name not in chosen.values()
    ]
