"""The report of the study of stability."""

from collections.abc import Sequence

import numpy as np

from experiments.sweeps._collapse import collapse_step, first_negative
from experiments.sweeps._compare import compare
from experiments.sweeps._power import too_few
from experiments.sweeps._records import Records, finished_records, later, scores
from experiments.sweeps._results import Call, write_results
from experiments.sweeps._sections import comparison_section, curve_section, in_words
from experiments.sweeps._seed_means import mean_of, over_seeds, share_over_seeds
from experiments.sweeps._sweep import Sweep
from experiments.sweeps.stability._arms import PAIRS, Config
from pgpo_jax.reports import Cell, Page, RunRecord


def report(config: Config, sweep: Sweep, call: Call) -> str:
    """Writes the report; returns the verdict."""
    seeds, records = finished_records(sweep)
    steps = {name: [collapse_step(run) for run in runs] for name, runs in records.items()}
    negative = {name: [first_negative(run) for run in runs] for name, runs in records.items()}
    fallen = {name: [s for s in found if s is not None] for name, found in steps.items()}
    late = scores(records, later(0.5))
    results: dict[str, object] = {
        "seeds": seeds,
        "collapse steps": steps,
        "first steps of negative information": negative,
        "accuracy": {name: share_over_seeds(late[name].mean(1)) for name in records},
    }
    if config.part == "screen":
        names = [name for name, found in fallen.items() if len(found) == len(seeds)]
        verdict = f"SDPO collapses at every seed in {len(names)} of {len(records)} settings" + (
            f": {', '.join(names)}." if names else " of the range searched."
        )
        comparisons = []
    else:
        comparisons = compare(late, PAIRS, margin=config.margin)
        results["comparisons"] = [c.to_json() for c in comparisons]
        rates = ", ".join(f"{name} {len(found)}/{len(seeds)}" for name, found in fallen.items())
        verdict = f"{too_few(len(seeds))} At {config.setting.name}, runs that collapse: {rates}."
        verdict = verdict.strip()
    page = Page("Where SDPO collapses", f"{len(seeds)} seeds. {verdict}")
    page.heading("The runs")
    page.table(
        [
            "setting" if config.part == "screen" else "arm",
            "runs that collapse",
            "mean step of collapse",
            "runs with I < 0",
            "mean first step with I < 0",
            "accuracy, second half",
            "student entropy, last step (nats)",
            "length of answers, last step (tokens)",
            "mean ρ",
            "mean I (nats)",
        ],
        [
            _row(name, runs, fallen[name], negative[name], late[name].mean(1))
            for name, runs in records.items()
        ],
        caption="Means over seeds with 95 % t-intervals over seeds.",
    )
    if comparisons:
        page.heading("The arms compared")
        comparison_section(
            page,
            comparisons,
            outcome="held-out accuracy, second half",
            margin=config.margin,
        )
        page.heading("Curves")
        _curves(page, records)
    verdict += f" Held-out accuracy: {in_words(comparisons)}." if comparisons else ""
    write_results(sweep, page, results, call=call, verdict=verdict)
    return verdict


def _row(
    name: str,
    runs: Sequence[RunRecord],
    fallen: Sequence[int],
    negative: Sequence[int | None],
    late: np.ndarray,
) -> list[Cell]:
    found = [step for step in negative if step is not None]

    def final(metric: str) -> Cell:
        return over_seeds([run.series(metric)[1][-1] for run in runs], low=0.0)

    return [
        name,
        f"{len(fallen)} of {len(runs)}",
        float(np.mean(fallen)) if fallen else None,
        f"{len(found)} of {len(runs)}",
        float(np.mean(found)) if found else None,
        share_over_seeds(late),
        final("self_distillation/student_entropy"),
        final("rollout/response_length"),
        over_seeds([mean_of(run, "pgpo/rho") for run in runs]),
        over_seeds([mean_of(run, "pgpo/information") for run in runs]),
    ]


def _curves(page: Page, records: Records) -> None:
    for metric, title, label in (
        ("eval/accuracy", "Held-out accuracy", "share of right answers"),
        ("pgpo/information", "Information I", "nats per token"),
        ("pgpo/rho", "Step multiplier ρ", "ρ (1 = plain step)"),
        ("self_distillation/student_entropy", "Entropy of the student", "nats per token"),
        ("rollout/response_length", "Length of the answers", "tokens"),
    ):
        curve_section(page, records, metric, title=title, label=label)
