import dataclasses
import functools as ft

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.sources._any_layout import any_question
from pgpo_jax.tasks.sources._columns import ColumnsConfig
from pgpo_jax.tasks.sources._fields import Fields
from pgpo_jax.tasks.sources._layout import columns_of, find_columns
from pgpo_jax.tasks.sources._sciknoweval import (
    is_sciknoweval,
    sciknoweval_columns,
    sciknoweval_question,
)
from pgpo_jax.tasks.sources._table import Problems, Row, Table


def questions_of(
    table: Table, columns: ColumnsConfig, *, sciknoweval: bool | None = None
) -> list[Question]:
    """The questions of a table, in the order of its rows.

    Args:
        table: table whose rows are all read.
        columns: the names of the columns.
        sciknoweval: whether the rows have SciKnowEval's layout; `None` detects it.

    Raises:
        PGPOValueError: rows or columns are invalid, or there is no row. The message lists all
            errors, those of rows with place and field.
    """
    rows = list(table.rows)
    if not rows:
        raise PGPOValueError(
            f"{table.source}: a question file must hold at least one row, got none"
        )
    problems = Problems()
    for row in rows:
        if (problem := _malformed(row)) is not None:
            problems.add(row.place, problem)
    if len(problems.of_row) == len(rows):  # Without rows the columns are not known.
        problems.check()
    if sciknoweval is None:
        sciknoweval = is_sciknoweval(rows, columns)
    if sciknoweval:
        found, make = sciknoweval_columns(rows, columns), sciknoweval_question
    else:
        found = find_columns(columns_of(rows), columns, table.source)
        make = ft.partial(any_question, answers=columns.answer != "")
    questions: list[Question] = []
    places: dict[str, str] = {}
    for position, row in enumerate(rows):
        if row.place in problems.of_row:
            continue
        fields = Fields(row.value, found)
        question = make(fields, table, position)
        if question is not None:
            if (before := places.setdefault(question.id, row.place)) != row.place:
                fields.wrong("id", f"repeats that of {before}")
            questions.append(question)
        for problem in fields.problems:
            problems.add(row.place, problem)
    problems.check()
    if columns.system_prompt is None:
        return questions
    return [dataclasses.replace(question, system=columns.system_prompt) for question in questions]


def _malformed(row: Row) -> str | None:
    if row.problem is None and not isinstance(row.value, dict):
        return f"a row must be a JSON object, got {type(row.value).__name__}"
    return row.problem
