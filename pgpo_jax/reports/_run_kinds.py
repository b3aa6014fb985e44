"""The section of a report on the accuracy by kind of question."""

from collections.abc import Sequence

from pgpo_jax.reports._cells import Cell
from pgpo_jax.reports._groups import Group, by_kind
from pgpo_jax.reports._kept_texts import read_questions
from pgpo_jax.reports._page import Page
from pgpo_jax.reports._run_record import RunRecord

_GROUPS = 40


def add_kinds(page: Page, records: Sequence[RunRecord]) -> None:
    """Accuracy by kind of question before and after, of runs that have more than one kind.

    Runs that began with the same scores share one table.
    """
    found = [(record, groups) for record in records if (groups := _groups_of(record))]
    if not found:
        return
    page.heading("Accuracy by kind of question")
    starts = [[group[:3] for group in groups] for _, groups in found]
    if len(found) > 1 and all(start == starts[0] for start in starts):
        _shared_kinds(page, found)
        return
    for record, groups in found:
        shown = _most_questions(groups)
        rows: list[list[Cell]] = [list(group) for group in shown]
        page.table(
            ["kind of question", "questions", "before", "after", "difference"],
            rows,
            caption=f"{record.name}: {_kinds_caption([record], len(groups) - len(shown))}",
            digits=2,
        )


def _shared_kinds(page: Page, found: Sequence[tuple[RunRecord, list[Group]]]) -> None:
    """One table of all runs; each has a column."""
    shown = _most_questions(found[0][1])
    after = {(record.name, group.name): group.after for record, groups in found for group in groups}
    rows: list[list[Cell]] = [
        [*group[:3], *(after[record.name, group.name] for record, _ in found)] for group in shown
    ]
    page.table(
        ["kind of question", "questions", "before", *(record.name for record, _ in found)],
        rows,
        caption="Before, all runs; and after, of each run: "
        + _kinds_caption([record for record, _ in found], len(found[0][1]) - len(shown)),
        digits=2,
    )


def _groups_of(record: RunRecord) -> list[Group]:
    if len(record.scores) < 2:
        return []
    first, last = min(record.scores), max(record.scores)
    return by_kind(read_questions(record.folder), record.scores[first], record.scores[last])


def _most_questions(groups: Sequence[Group]) -> list[Group]:
    shown = sorted(groups, key=lambda group: (-group.questions, group.name))[:_GROUPS]
    return sorted(shown, key=lambda group: group.name.casefold())


def _kinds_caption(records: Sequence[RunRecord], left: int) -> str:
    firsts = sorted({min(record.scores) for record in records})
    lasts = sorted({max(record.scores) for record in records})
    note = f" The {left} kinds with the fewest questions are left out." if left else ""
    return (
        f"held-out accuracy at the evaluations of steps {'/'.join(map(str, firsts))} and "
        f"{'/'.join(map(str, lasts))}, with 95 % intervals over questions.{note}"
    )
