"""The results of runs on a page."""

from collections.abc import Sequence

from pgpo_jax.reports._cells import Cell
from pgpo_jax.reports._page import Page
from pgpo_jax.reports._run_record import RunRecord
from pgpo_jax.reports._run_summary import paired, summary


def add_results(page: Page, records: Sequence[RunRecord]) -> None:
    columns, rows = summary(records)
    samples = sorted({str(r.config.get("evaluation", {}).get("samples", "?")) for r in records})
    page.table(
        columns,
        rows,
        caption=f"Held-out accuracy is avg@{'/'.join(samples)}: the share of right answers among "
        "that many samples of each question. Brackets: 95 % intervals over questions.",
    )
    if len(records) > 1:
        first, others = records[0], records[1:]
        differences: list[list[Cell]] = [
            [f"{other.name} − {first.name}", paired(other, first)] for other in others
        ]
        page.table(
            ["after training", "difference in accuracy"],
            differences,
            caption="Paired by question, last evaluation of each run.",
        )
    page.text(
        "The intervals say how far another set of questions could move a number. They do not "
        "contain the spread between seeds of the training, which is often larger: a difference "
        "between two single runs decides nothing about two methods."
    )
