"""The table of results of runs."""

from collections.abc import Sequence

from pgpo_jax.reports._cells import Cell
from pgpo_jax.reports._interval import Interval, difference_interval
from pgpo_jax.reports._run_record import RunRecord


def summary(records: Sequence[RunRecord]) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of the table of results, for the page and the terminal.

    Seconds are given for a single run only. Runs that were not made in turns had different loads on
    the machine, so their seconds do not compare the methods.
    """
    columns = [
        "run",
        "accuracy before",
        "accuracy after",
        "difference",
        "mean I (nats)",
        "mean ρ",
    ]
    if len(records) == 1:
        columns.append("median seconds per step")
    rows: list[list[Cell]] = []
    for record in records:
        points = record.accuracies()
        before: Cell = points[0][1] if points else None
        after: Cell = points[-1][1] if len(points) > 1 else None
        row: list[Cell] = [
            record.name,
            before,
            after,
            paired(record, record) if len(points) > 1 else None,
            record.mean("pgpo/information"),
            record.mean("pgpo/rho"),
        ]
        if len(records) == 1:
            row.append(record.seconds_per_step())
        rows.append(row)
    return columns, rows


def paired(record: RunRecord, other: RunRecord) -> Interval | None:
    """Last evaluation of `record` against the last of `other`, or its own first.

    It uses the evaluations that the table shows. If the scores by question of one are missing, as
    after a crash, there is no difference.
    """
    if not record.evaluations or not other.evaluations:
        return None
    place = 0 if record is other else -1
    after = record.scores.get(record.evaluations[-1]["step"], {})
    before = other.scores.get(other.evaluations[place]["step"], {})
    return difference_interval(after, before) if after.keys() & before.keys() else None
