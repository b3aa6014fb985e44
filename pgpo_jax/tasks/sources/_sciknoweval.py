"""The layout of SciKnowEval as published with SDPO: multiple choice, options in the prompt."""

import re
from collections.abc import Mapping, Sequence

from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.sources._columns import ColumnsConfig
from pgpo_jax.tasks.sources._fields import Fields
from pgpo_jax.tasks.sources._layout import columns_of
from pgpo_jax.tasks.sources._table import Row, Table

_OPTION = re.compile(r"^([A-Z]): ?", re.MULTILINE)
_FIXED = {"system": "system", "question": "prompt", "answer": "answer"}
_OPTIONAL = {
    "id": "idx",
    "kind": "kind",
    "solution": "solution",
    "demonstration": "demonstration",
    "feedback": "feedback",
}


def is_sciknoweval(rows: Sequence[Row], columns: ColumnsConfig) -> bool:
    """Whether rows have the layout: its columns, and options A and B in half of the prompts.

    The answers are not used, so that a wrong one is an error and not another layout. If the user
    names any column, this layout is not used.
    """
    if any(columns.chosen().values()) or not set(_FIXED.values()) <= set(columns_of(rows)):
        return False
    prompts = [row.value.get("prompt") for row in rows if isinstance(row.value, dict)]
    found = sum(
        isinstance(text, str) and {"A", "B"} <= set(_OPTION.findall(text)) for text in prompts
    )
    return 2 * found >= len(prompts)


def sciknoweval_columns(rows: Sequence[Row], columns: ColumnsConfig) -> Mapping[str, str]:
    """The column of each role."""
    names, left_out = columns_of(rows), columns.chosen()
    return _FIXED | {
        role: name for role, name in _OPTIONAL.items() if name in names and role not in left_out
    }


def sciknoweval_question(fields: Fields, table: Table, position: int) -> Question:
    """The question of a row. Errors of the row are recorded in `fields`."""
    system, prompt = fields.string("system"), fields.string("question")
    answer = fields.string("answer")
    if not fields.problems:
        options = _OPTION.findall(prompt)
        if not prompt.strip():
            fields.wrong("question", "must not be blank", got=False)
        elif answer not in options:
            fields.wrong("answer", f"must be one of the prompt's option letters {options}")
    idx = fields.id("id") if "id" in fields.columns else position
    return Question(
        f"{table.folder}-{idx}",
        table.folder,
        system,
        prompt,
        answer,
        kind=fields.optional_text("kind"),
        solution=fields.optional_string("solution"),
        demonstration=fields.optional_string("demonstration"),
        feedback=fields.optional_string("feedback"),
        columns=fields.rest(),
    )
