"""The report of the study of a real model."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.sweeps._bootstrap import paired_bootstrap
from experiments.sweeps._compare import compare
from experiments.sweeps._power import too_few
from experiments.sweeps._records import Records, finished_records, last, scores
from experiments.sweeps._results import Call, write_results
from experiments.sweeps._sections import comparison_section, curve_section, in_words
from experiments.sweeps._seed_means import mean_of, over_seeds, share_over_seeds
from experiments.sweeps._sweep import Sweep
from experiments.sweeps.real_model._arms import PAIRS, Config
from pgpo_jax.reports import Cell, Interval, KeptTexts, Page, RunRecord

_OUTCOME = "held-out accuracy at the last evaluation"


def report(config: Config, sweep: Sweep, call: Call) -> str:
    """Writes the report; returns the verdict."""
    seeds, records = finished_records(sweep)
    final, first = scores(records, last), scores(records, lambda steps: steps[:1])
    gains = {name: paired_bootstrap(final[name] - first[name])[0] for name in records}
    comparisons = compare(final, PAIRS, margin=config.margin)
    learnt = "; ".join(f"{name} {gain.text()}" for name, gain in gains.items())
    verdict = (
        f"{too_few(len(seeds))} {len(seeds)} seeds. From the first to the last evaluation accuracy "
        f"changes by: {learnt}. The arms at the last evaluation: {in_words(comparisons)}."
    ).strip()
    page = Page("SDPO and PGPO on a pretrained model", verdict)
    page.heading("The arms")
    table = {name: _row(records[name], gains[name]) for name in records}
    page.table(
        ["arm", *next(iter(table.values()))],
        [[name, *row.values()] for name, row in table.items()],
        caption=f"avg@{config.training.evaluation.samples} on {final['sdpo'].shape[1]} held-out "
        "questions. Means over seeds with 95 % t-intervals; the change: with an interval that "
        "allows for other seeds and other questions. Readable: the first answer to each question "
        "names an option. Commonest: the share of the letter that most of these answers name.",
    )
    page.heading("The arms compared")
    comparison_section(page, comparisons, outcome=_OUTCOME, margin=config.margin)
    page.heading("Curves")
    _curves(page, records)
    results = {
        "seeds": seeds,
        "gains": gains,
        "comparisons": [c.to_json() for c in comparisons],
        "arms": table,
    }
    write_results(sweep, page, results, call=call, verdict=verdict)
    return verdict


def readable(run: RunRecord, step: int) -> tuple[float, float]:
    """Of the first answers to the held-out questions at an evaluation: the share that names an
    option, and the share that names the commonest one."""
    named = [
        text.grade.prediction for text in KeptTexts(run.folder / "texts.jsonl").rows(step, "test")
    ]
    counts = Counter(name for name in named if name)
    if not named:
        return float("nan"), float("nan")
    return counts.total() / len(named), max(counts.values(), default=0) / len(named)


def _row(runs: Sequence[RunRecord], gain: Interval) -> Mapping[str, Cell]:
    ends = [(min(run.scores), max(run.scores)) for run in runs]
    before, after = (
        [readable(run, end[place]) for run, end in zip(runs, ends, strict=True)] for place in (0, 1)
    )

    def accuracy(place: int) -> Interval:
        return share_over_seeds(
            [
                float(np.mean(list(run.scores[end[place]].values())))
                for run, end in zip(runs, ends, strict=True)
            ]
        )

    def mean(metric: str) -> Interval:
        return over_seeds([mean_of(run, metric) for run in runs])

    def final(metric: str) -> Interval:
        return over_seeds([run.series(metric)[1][-1] for run in runs])

    information = [run.series("pgpo/information")[1] for run in runs]
    return {
        "accuracy before": accuracy(0),
        "accuracy after": accuracy(1),
        "change": gain,
        "readable before": share_over_seeds([share for share, _ in before]),
        "readable after": share_over_seeds([share for share, _ in after]),
        "commonest letter before": share_over_seeds([share for _, share in before]),
        "commonest letter after": share_over_seeds([share for _, share in after]),
        "mean ρ": mean("pgpo/rho"),
        "mean I (nats)": mean("pgpo/information"),
        "steps with I < 0": float(np.mean([np.mean(np.array(x) < 0) for x in information])),
        "responses that train": mean("self_distillation/reprompt_sample_fraction"),
        "student entropy, last step (nats)": final("self_distillation/student_entropy"),
        "teacher entropy, last step (nats)": final("self_distillation/teacher_entropy"),
    }


def _curves(page: Page, records: Records) -> None:
    for metric, title, label in (
        ("eval/accuracy", "Held-out accuracy", "share of right answers"),
        ("rollout/accuracy", "Accuracy of the training responses", "share of right answers"),
        ("pgpo/information", "Information I", "nats per token"),
        ("pgpo/rho", "Step multiplier ρ", "ρ (1 = plain step)"),
        ("self_distillation/student_entropy", "Entropy of the student", "nats per token"),
        ("self_distillation/teacher_entropy", "Entropy of the teacher", "nats per token"),
    ):
        curve_section(page, records, metric, title=title, label=label)
