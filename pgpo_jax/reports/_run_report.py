import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports._curves import Curve
from pgpo_jax.reports._interval import Interval, difference_interval
from pgpo_jax.reports._page import Cell, Page
from pgpo_jax.reports._run_record import RunRecord, read_run

_PACKAGES = ("pgpo-jax", "jax", "jaxlib", "optax", "flax", "orbax-checkpoint", "transformers")
_STEP = "optimizer step"


def write_run_report(
    runs: Mapping[str, str | Path],
    output: str | Path,
    *,
    title: str = "Training runs compared",
    command: str | None = None,
) -> Path:
    """Compares run folders on one self-contained page.

    Args:
        runs: folder by the name it gets on the page; the first is what others are compared with.
        output: the HTML file.
        title: of the page.
        command: shown at its end; by default how this process was called.

    Returns:
        The path written.

    Raises:
        ValueError: if there is no run, or a file in one is not what a run writes.
        FileNotFoundError: if a folder holds no run.
    """
    if not runs:
        raise PGPOValueError("a report needs at least one run, got none")
    records = [read_run(folder, name) for name, folder in runs.items()]
    page = Page(title, _lead(records))
    page.heading("Result")
    _results(page, records)
    page.heading("Curves")
    _curves(page, records)
    page.heading("What was run")
    _configurations(page, records)
    page.facts(versions(), fold="Versions at the time this page was written")
    page.command(command or shlex.join(["pgpo", *sys.argv[1:]]))
    return page.write(output)


def versions() -> dict[str, str]:
    """Versions of the installed packages that decide a run's numbers."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _lead(records: Sequence[RunRecord]) -> str:
    models = sorted({str(record.config.get("model")) for record in records})
    tasks = sorted({str(record.config.get("task")) for record in records})
    return f"Model {', '.join(models)}; questions from {', '.join(tasks)}."


def summary(records: Sequence[RunRecord]) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of the table of results, for the page and the terminal."""
    columns = [
        "run",
        "accuracy before",
        "accuracy after",
        "difference",
        "mean I (nats)",
        "mean ρ",
        "seconds per step",
    ]
    rows: list[list[Cell]] = []
    for record in records:
        points = record.accuracies()
        before: Cell = points[0][1] if points else None
        after: Cell = points[-1][1] if len(points) > 1 else None
        rows.append(
            [
                record.name,
                before,
                after,
                _paired(record, record) if len(points) > 1 else None,
                record.mean("pgpo/information"),
                record.mean("pgpo/rho"),
                record.seconds_per_step(),
            ]
        )
    return columns, rows


def _paired(record: RunRecord, other: RunRecord) -> Interval | None:
    """Last evaluation of `record` against the last of `other`, or its own first."""
    if not record.scores or not other.scores:
        return None
    after = record.scores[max(record.scores)]
    before = other.scores[min(other.scores) if record is other else max(other.scores)]
    return difference_interval(after, before) if after.keys() & before.keys() else None


def _results(page: Page, records: Sequence[RunRecord]) -> None:
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
            [f"{other.name} − {first.name}", _paired(other, first)] for other in others
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


def _curves(page: Page, records: Sequence[RunRecord]) -> None:
    held_out = []
    for i, record in enumerate(records):
        points = record.accuracies()
        held_out.append(
            Curve(
                record.name,
                [step for step, _ in points],
                [interval.value for _, interval in points],
                [interval.low for _, interval in points],
                [interval.high for _, interval in points],
                colour=i,
            )
        )
    page.curves(
        held_out,
        title="Held-out accuracy",
        x_label=_STEP,
        y_label="share of right answers",
        y_range=(0.0, 1.0),
        caption="Questions that were never trained on; the band is the 95 % interval over them.",
    )

    def plain(metric: str, title: str, y_label: str, caption: str, **options: object) -> None:
        page.curves(
            [Curve(r.name, *r.series(metric), colour=i) for i, r in enumerate(records)],
            title=title,
            x_label=_STEP,
            y_label=y_label,
            caption=caption,
            **options,  # pyright: ignore[reportArgumentType]
        )

    plain(
        "rollout/accuracy",
        "Accuracy on the training questions",
        "share of right answers",
        "The student's own answers at each step, before it learns from them.",
        y_range=(0.0, 1.0),
    )
    plain(
        "pgpo/information",
        "Information I",
        "nats per token",
        "How much surer the teacher, who has seen a solution, is of the next token than the "
        "student. It measures confidence, not whether the teacher is right.",
        reference=0.0,
    )
    plain(
        "pgpo/rho",
        "Step multiplier ρ",
        "ρ (1 = plain step)",
        "Each update is multiplied by ρ = exp(α I), capped. SDPO is the same program with α = 0, "
        "so ρ = 1.",
        reference=1.0,
    )
    page.curves(
        [
            Curve(r.name, steps, [1 / v if v > 0 else float("nan") for v in rho], colour=i)
            for i, r in enumerate(records)
            for steps, rho in [r.series("pgpo/rho")]
        ],
        title="Viscosity 1/ρ",
        x_label=_STEP,
        y_label="1/ρ (1 = plain step)",
        reference=1.0,
        caption="The same number as the paper pictures it: the thinner the fluid, the longer the "
        "step.",
    )
    page.curves(
        [
            Curve(
                f"{r.name}, {who}",
                *r.series(f"self_distillation/{who}_entropy"),
                colour=i,
                dash=dash,
            )
            for i, r in enumerate(records)
            for dash, who in enumerate(("student", "teacher"))
        ],
        title="Entropies",
        x_label=_STEP,
        y_label="nats per token",
        caption="How undecided each side is about the next token; 0 is certain.",
    )
    plain(
        "rollout/response_length",
        "Length of the answers",
        "tokens",
        "Mean number of tokens of an answer, its end included.",
    )
    plain(
        "self_distillation/reprompt_sample_fraction",
        "Answers with a teacher signal",
        "share of answers",
        "An answer teaches only if another answer to the same question was right and can be shown "
        "to the teacher.",
        y_range=(0.0, 1.0),
    )


def _configurations(page: Page, records: Sequence[RunRecord]) -> None:
    configs = [record.flat_config() for record in records]
    names = list(dict.fromkeys(name for config in configs for name in config))
    differing = [n for n in names if len({repr(config.get(n)) for config in configs}) > 1]
    if len(records) > 1:
        if differing:
            page.table(
                ["setting", *(record.name for record in records)],
                [[n, *(str(config.get(n, "–")) for config in configs)] for n in differing],
                caption="Settings in which the runs differ; all others are equal.",
            )
        else:
            page.text("All settings of the runs are equal.")
    common = {n: configs[0][n] for n in names if n not in differing and n in configs[0]}
    title = "All settings" if len(records) == 1 else "Settings that all runs share"
    page.facts(common, fold=title)
    page.facts({record.name: record.folder for record in records}, fold="Run folders")
