"""Sections of a report on questions and answers; a run without kept texts has none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pgpo_jax.reports._kept_texts import answer_pairs, read_texts
from pgpo_jax.reports._page import Page
from pgpo_jax.reports._run_record import RunRecord

_ROWS = 2
_PAIRS = 4


def add_texts(page: Page, records: Sequence[RunRecord]) -> None:
    """Some responses of the first, the middle and the last step, token by token."""
    sources = [(record, read_texts(record.folder)) for record in records]
    sources = [(record, texts) for record, texts in sources if texts.steps("train")]
    if not sources:
        return
    page.heading("Sampled responses")
    page.text(
        "Each token is marked by its information I: how much surer the teacher was of the next "
        "token than the student at this place, in nats. Blue with a solid line: the teacher was "
        "surer. Orange with a dashed line: the student was. The pointer on a token shows its "
        "numbers. What only the teacher was shown is marked in its prompt."
    )
    page.token_legend()
    for record, texts in sources:
        with _of_run(page, record, records):
            for step in _few(texts.steps("train")):
                kept = list(texts.rows(step, "train"))
                for text in kept[:_ROWS]:
                    page.kept_text(text)
                if len(kept) > _ROWS:
                    page.text(
                        f"The run keeps {len(kept)} responses of step {step}: "
                        f"pgpo inspect shows all of them."
                    )


def add_answers(page: Page, records: Sequence[RunRecord]) -> None:
    """The answers of the first and of the last evaluation to the same questions."""
    found = [(record, answer_pairs(read_texts(record.folder))) for record in records]
    found = [(record, pairs) for record, pairs in found if pairs]
    if not found:
        return
    page.heading("Answers before and after")
    page.text("One sampled answer to each of some held-out questions, at two evaluations.")
    for record, pairs in found:
        with _of_run(page, record, records):
            for before, after in pairs[:_PAIRS]:
                page.answers(before, after)


@contextmanager
def _of_run(page: Page, record: RunRecord, records: Sequence[RunRecord]) -> Iterator[None]:
    """The contents about one run of several are folded under its name."""
    if len(records) == 1:
        yield
        return
    with page.fold(record.name, open=record is records[0]):
        yield


def _few(steps: Sequence[int]) -> list[int]:
    """The first, the middle and the last one.

    >>> _few([1, 2, 3, 4, 5]), _few([7])
    ([1, 3, 5], [7])
    """
    places = sorted({0, (len(steps) - 1) // 2, len(steps) - 1})
    return [steps[place] for place in places]
