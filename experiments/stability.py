"""Where does SDPO collapse, and does the signal help there? `python -m experiments.stability`.

Two parts, each a sweep of its own:

- `screen`: SDPO alone over learning rate x teacher x share of misleading solutions (a wrong answer
  of the same group, passed off as correct), to find settings in which it does collapse;
- `arms`: all arms in one of those settings (`--setting`), over a long horizon.

**Fixed in advance.** *Collapse*: the first evaluation from which on held-out accuracy never again
reaches half of the starting model's. A run whose gradient is not finite ten times in a row has
collapsed where it stopped; its accuracy from there on is 0 (said so later; no run had stopped so).
*Outcomes*: the share of runs that collapse and the time to it; held-out accuracy, averaged over the
second half of the run, is what arms are compared by, paired by seed and question, Holm over the
family, smallest difference of interest 0.03.

*Arms.* `sdpo`; `pgpo` (alpha = 5, rho_max = 4: with a positive I its rho is above 1, so it can only
take longer steps); `matched`: the mean rho of the same seed's `pgpo` run at every step; `floor`:
`pgpo` with rho_min = 1; `flipped`: rho = exp(-alpha I), the floor-free multiplier that falls below
1 where the teacher is more confident; `flipped_matched`: its mean at every step. If `pgpo` widens
the stable region it must beat `sdpo` *and* `matched`; if only shorter steps help, `flipped` and
`flipped_matched` agree and both beat `sdpo`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.sweeps._command import DoseConfig, run_experiment
from experiments.sweeps._report import (
    Records,
    comparison_section,
    finished_records,
    fixed_in_advance,
    in_words,
    later,
    mean_curves,
    mean_of,
    over_seeds,
    scores,
    share_over_seeds,
    write_results,
)
from experiments.sweeps._settings import TRAINING, changed
from experiments.sweeps._statistics import compare, too_few
from experiments.sweeps._sweep import Arm, Finished, Sweep
from pgpo_jax.reports import Cell, Page, RunRecord
from pgpo_jax.training import TrainConfig

PAIRS = (
    ("pgpo", "sdpo"),
    ("pgpo", "matched"),
    ("matched", "sdpo"),
    ("floor", "pgpo"),
    ("flipped", "sdpo"),
    ("flipped", "flipped_matched"),
    ("flipped_matched", "sdpo"),
)


@dataclass(frozen=True)
class Setting:
    """A place in the grid."""

    learning_rate: float = 1.5e-4
    teacher: Literal["ema", "live", "frozen", "trust_region"] = "ema"
    misleading: float = 0.0

    @property
    def name(self) -> str:
        """As in folders and tables."""
        return f"{self.learning_rate:.2g}-{self.teacher}-{self.misleading:g}"


@dataclass(frozen=True, kw_only=True)
class Config(DoseConfig):
    """Screens for a setting that collapses, or runs all arms in one."""

    part: Literal["screen", "arms"] = "screen"
    learning_rates: tuple[float, ...] = (1.5e-3, 5e-3)
    """Of the screen."""
    teachers: tuple[Literal["ema", "live", "frozen", "trust_region"], ...] = (
        "ema",
        "live",
        "frozen",
        "trust_region",
    )
    """Of the screen."""
    misleading: tuple[float, ...] = (0.0, 0.6)
    """Of the screen: chance of a shown solution to be a wrong one."""
    setting: Setting = Setting()
    """Of the arms."""
    margin: float = 0.03
    """The smallest difference in accuracy that matters."""


PRESETS = {
    "smoke": Config(
        preset="smoke",
        seeds=2,
        learning_rates=(5e-3,),
        teachers=("ema", "live"),
        misleading=(0.0,),
        training=TRAINING["smoke"],
    ),
    "cpu": Config(
        seeds=2,
        training=changed(
            TRAINING["cpu"], steps=40, evaluation={"every": 5, "questions": 64, "samples": 2}
        ),
    ),
    "gpu": Config(
        preset="gpu",
        seeds=3,
        learning_rates=(1e-5, 5e-5, 2e-4),
        training=changed(TRAINING["gpu"], steps=120),
    ),
}


def arms(config: Config) -> list[Arm]:
    """The grid of the screen, or the six arms in the setting."""
    if config.part == "screen":
        grid = [
            Setting(rate, teacher, share)
            for rate in config.learning_rates
            for teacher in config.teachers
            for share in config.misleading
        ]
        return [Arm(place.name, _sdpo(config, place)) for place in grid]
    sdpo = _sdpo(config, config.setting)

    def modulated(name: str, **information: object) -> Arm:
        def build(seed: int, finished: Finished) -> TrainConfig:
            return config.with_signal(sdpo(seed, finished), **information)

        return Arm(name, build)

    def matched(name: str, to: str) -> Arm:
        def build(seed: int, finished: Finished) -> TrainConfig:
            replay = config.constant(finished(to, seed))
            return modulated(name, replay=replay).config(seed, finished)

        return Arm(name, build, lambda seed: [(to, seed)])

    return [
        Arm("sdpo", sdpo),
        modulated("pgpo"),
        matched("matched", "pgpo"),
        modulated("floor", rho_min=1.0),
        modulated("flipped", flip=True),
        matched("flipped_matched", "flipped"),
    ]


def _sdpo(config: Config, place: Setting):
    def build(seed: int, finished: Finished) -> TrainConfig:
        return changed(
            config.training,
            method="sdpo",
            seed=seed,
            optimizer={"learning_rate": place.learning_rate},
            teacher={"kind": place.teacher, "misleading": place.misleading},
        )

    return build


def collapse_step(run: RunRecord) -> int | None:
    """The step of collapse as defined above, or `None`."""
    points = [(step, interval.value) for step, interval in run.accuracies()]
    threshold = points[0][1] / 2
    found = None
    for step, accuracy in reversed(points[1:]):
        if accuracy >= threshold:
            break
        found = step
    # A run that was stopped by gradients that are not finite has no evaluation at its end.
    stopped = run.steps[-1]["step"] if run.steps else 0
    wanted = run.config["steps"]
    return stopped if found is None and stopped < wanted else found


def first_negative(run: RunRecord) -> int | None:
    """The first step whose information is below 0: the teacher less sure than the student."""
    steps, values = run.series("pgpo/information")
    return next((step for step, value in zip(steps, values, strict=True) if value < 0), None)


def report(config: Config, sweep: Sweep, command: str) -> str:
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
    fixed_in_advance(page, __doc__)
    verdict += f" Held-out accuracy: {in_words(comparisons)}." if comparisons else ""
    write_results(sweep, page, results, command=command, verdict=verdict, text=__doc__ or "")
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
        page.curves(
            mean_curves(records, metric),
            title=title,
            x_label="optimizer step",
            y_label=label,
            caption="Mean over seeds with its 95 % band.",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.stability`."""
    return run_experiment("stability", PRESETS, arms, report, argv=argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
