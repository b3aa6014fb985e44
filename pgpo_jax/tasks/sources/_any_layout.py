"""Makes questions from rows whose columns are found by their names."""

from collections.abc import Mapping
from typing import Any

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._question import Message, Question
from pgpo_jax.tasks.sources._fields import Fields
from pgpo_jax.tasks.sources._layout import TESTS
from pgpo_jax.tasks.sources._table import Table


def any_question(fields: Fields, table: Table, position: int, *, answers: bool) -> Question | None:
    """The question of a row. Errors of the row are recorded in `fields`.

    Args:
        fields: of the row.
        table: table that gives ids and domains to rows without them.
        position: number of the row, from 0.
        answers: whether a row must have an answer or tests.

    Returns:
        The question, or `None` if its chat is invalid.
    """
    role = "messages" if "messages" in fields.columns else "question"
    chat = _chat(fields, role)
    system = fields.optional_string("system")
    if system and chat and chat[0].role == "system":
        fields.wrong(
            "system", f"and '{fields.columns[role]}' both have a system message", got=False
        )
    elif system:
        chat.insert(0, Message("system", system))
    values = {
        "id": fields.id("id") if "id" in fields.columns else f"{table.stem}-{position}",
        "answer": _answer(fields, answers),
        "domain": fields.optional_text("domain") or table.domain,
        "kind": fields.optional_text("kind"),
        "solution": fields.optional_string("solution"),
        "demonstration": fields.optional_string("demonstration"),
        "feedback": fields.optional_string("feedback"),
        "columns": fields.rest(),
    }
    if not chat:
        return None
    try:
        question = Question.from_messages(messages=chat, **values)
    except PGPOValueError as error:
        fields.wrong(role, f"is no chat to answer: {error}", got=False)
        return None
    if not question.prompt.strip():
        fields.wrong(role, "must not be blank", got=False)
    return question


def has_tests(row: Mapping[str, Any]) -> bool:
    """Whether a row has tests for a program as its answer; SDPO's files write "-" for none.

    >>> has_tests({"test_list": ["assert f(1) == 2"]}), has_tests({"tests": "-"})
    (True, False)
    """
    found = (row.get(name) for name in TESTS)
    return any(
        value.strip() not in ("", "-") if isinstance(value, str) else value for value in found
    )


def _chat(fields: Fields, role: str) -> list[Message]:
    """The messages of a row; empty if they are invalid."""
    if role == "messages" or isinstance(fields.value(role), list):
        return fields.chat(role)
    known = len(fields.problems)
    prompt = fields.string(role)
    return [Message("user", prompt)] if len(fields.problems) == known else []


def _answer(fields: Fields, answers: bool) -> str:
    if fields.value("answer") is not None:
        return fields.text("answer")
    if answers and not has_tests(fields.row):
        if "answer" in fields.columns:
            fields.wrong(
                "answer", "must be a string or a finite number, or the row must have tests"
            )
        else:
            name = next((name for name in TESTS if name in fields.row), TESTS[0])
            fields.problems.append(
                f"field '{name}' must hold tests, or the row must have an answer"
            )
    return ""
