"""Is it the information? The same training with the signal replaced: `python -m
experiments.falsification`.

**Fixed in advance** (before any run of the `cpu` preset):

*Dose.* At the paper's alphas (0.5 to 1.5) the shipped model's I of about 0.1 nats moves rho by some
per cent, which no affordable number of seeds could tell from 1. The dose here is alpha = 5 with
rho_max = 4, which gives a mean rho of about 1.6 and leaves the cap out of it. It was chosen by two
pilot runs of `real` and two of `sdpo`, at seeds 0 and 1; nothing else was looked at.

*Primary outcome.* Held-out accuracy, averaged over the evaluations of the second third of the run
and later (steps 8, 12, ..., 24 of the `cpu` preset), per seed and question. The last evaluation
alone is reported beside it and decides nothing.

*Arms.* All share questions, samples' random numbers, initial weights and program; they differ in
what the multiplier is given (`GIVEN` below, and the table of the report).

`constant` and `learning_rate` are one update written in two ways. What they differ by is rounding,
grown through training: the floor under all other differences.

*Comparisons*, paired by seed and question, Holm over the family: `real` against each arm but the
halves, `half_same` against `half_other`, and `constant` against `learning_rate`.

*Smallest difference of interest*: 0.02 of accuracy.

*Verdict.* The matched controls are `constant`, `shuffled`, `random`, `other_seed` and `mirrored`:
they take steps as long as the real run's on average, without its information. "The information is
the cause" needs `real` better than every one of them, after Holm. "The information is not the cause
at this scale" needs all five intervals inside the margin. Anything else is "undecided", with the
seeds that would decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.sweeps._command import DoseConfig, run_experiment
from experiments.sweeps._report import (
    OUTCOME,
    SETTLED,
    Records,
    comparison_section,
    finished_records,
    fixed_in_advance,
    in_words,
    last,
    mean_curves,
    mean_of,
    over_seeds,
    scores,
    share_over_seeds,
    write_results,
)
from experiments.sweeps._settings import TRAINING, changed
from experiments.sweeps._statistics import Comparison, compare, too_few
from experiments.sweeps._sweep import Arm, Finished, Sweep
from pgpo_jax.reports import Page, RunRecord
from pgpo_jax.training import TrainConfig

GIVEN = {
    "real": "this step's I",
    "sdpo": "nothing: ρ = 1",
    "constant": "the mean ρ of the same seed's real run, at every step",
    "shuffled": "the I of the same seed's real run, in random order",
    "random": "independent draws, with replacement, from the I of the same seed's real run",
    "other_seed": "the I of another seed's real run, in order: the trend without this feedback",
    "mirrored": "twice the mean I minus I, of the real run: small where the information is large",
    "learning_rate": "nothing; the learning rate is multiplied by the real run's mean ρ",
    "flipped": "minus this step's I: a mean ρ below 1",
    "delayed": "the I of the step before",
    "floor": "this step's I, with ρ at least 1",
    "half_same": "gradient from one half of the questions, I from the same half",
    "half_other": "gradient from one half of the questions, I from the other half",
}
MATCHED = ("constant", "shuffled", "random", "other_seed", "mirrored")
OTHERS = ("sdpo", "learning_rate", "flipped", "delayed", "floor")
PAIRS = (
    *(("real", name) for name in (*MATCHED, *OTHERS)),
    ("half_same", "half_other"),
    ("constant", "learning_rate"),
)


@dataclass(frozen=True, kw_only=True)
class Config(DoseConfig):
    """Trains with the real signal and with twelve replacements of it, and compares."""


PRESETS = {
    "smoke": Config(preset="smoke", seeds=2, training=TRAINING["smoke"]),
    "cpu": Config(),
    "gpu": Config(preset="gpu", seeds=20, training=TRAINING["gpu"]),
}


def arms(config: Config) -> list[Arm]:
    """The thirteen arms; those that replay a real run wait for it."""

    def with_signal(seed: int, **information: object) -> TrainConfig:
        return config.with_signal(changed(config.training, seed=seed), **information)

    def measured(name: str, **information: object) -> Arm:
        return Arm(name, lambda seed, finished: with_signal(seed, **information))

    def sdpo(seed: int, finished: Finished) -> TrainConfig:
        return changed(config.training, method="sdpo", seed=seed)

    def longer_steps(seed: int, finished: Finished) -> TrainConfig:
        rho = mean_of(finished("real", seed), "pgpo/rho")
        rate = config.training.optimizer.learning_rate * rho
        return changed(sdpo(seed, finished), optimizer={"learning_rate": rate})

    def replayed(name: str) -> Arm:
        def donor(seed: int) -> int:
            if name != "other_seed":
                return seed
            # Whatever the seeds of this sweep, so that a run does not depend on them.
            return seed - 1 if seed else 1

        def build(seed: int, finished: Finished) -> TrainConfig:
            values = replacement(name, finished("real", donor(seed)), config, seed)
            return with_signal(seed, replay=values)

        return Arm(name, build, lambda seed: [("real", donor(seed))])

    return [
        measured("real"),
        Arm("sdpo", sdpo),
        *(replayed(name) for name in MATCHED),
        Arm("learning_rate", longer_steps, lambda seed: [("real", seed)]),
        measured("flipped", flip=True),
        measured("delayed", delay=1),
        measured("floor", rho_min=1.0),
        measured("half_same", half="same"),
        measured("half_other", half="other"),
    ]


def replacement(name: str, real: RunRecord, config: Config, seed: int) -> tuple[float, ...]:
    """What a matched control gives the multiplier at each step, in nats."""
    # A signal that was not finite had rho = 1, as 0 has.
    measured = np.nan_to_num(real.series("pgpo/information")[1], nan=0.0)
    rng = np.random.default_rng([seed, len(measured)])
    if name == "constant":
        return config.constant(real)
    if name == "shuffled":
        values = rng.permutation(measured)
    elif name == "random":
        values = rng.choice(measured, len(measured))
    elif name == "mirrored":
        values = 2 * measured.mean() - measured
    else:
        values = measured
    return tuple(float(value) for value in values)


def decide(comparisons: Sequence[Comparison], margin: float) -> str:
    """The verdict of the docstring, in words."""
    by_name = {c.name: c for c in comparisons}
    matched = [by_name[f"real − {name}"] for name in MATCHED]
    by_control = {name: c.verdict for name, c in zip(MATCHED, matched, strict=True)}
    count = matched[0].seeds
    if refused := too_few(count):
        return refused
    if all(c.verdict == "better" for c in matched):
        return (
            f"The information is the cause: with {count} seeds the real signal is better than "
            "every matched control."
        )
    if all(c.verdict == "no difference that matters" for c in matched):
        return (
            f"The information is not the cause at this scale: with {count} seeds the real signal "
            f"differs from every matched control by less than {margin:g}."
        )
    found = "; ".join(
        f"{verdict}: {', '.join(name for name in MATCHED if verdict == by_control[name])}"
        for verdict in dict.fromkeys(by_control.values())
    )
    enough = [n for n in (_seeds_for_all(matched, better) for better in (True, False)) if n]
    seeds = f"{min(enough)} seeds" if enough else "No number of seeds"
    return (
        f"Undecided with {count} seeds (real against its matched controls: {found}). {seeds} would "
        "settle all five alike with 80 % power, if the differences are what they seem."
    )


def _seeds_for_all(matched: Sequence[Comparison], better: bool) -> int | None:
    """Seeds at which all are better, or all within the margin; `None` if no number does it."""
    if better and not all(c.difference.value > 0 for c in matched):
        return None
    needed = [c.seeds_beside_zero if better else c.seeds_within_margin for c in matched]
    return None if None in needed else max(n for n in needed if n)


def report(config: Config, sweep: Sweep, command: str) -> str:
    """Writes the report; returns the verdict."""
    seeds, records = finished_records(sweep)
    outcome, final = scores(records, SETTLED), scores(records, last)
    comparisons = compare(outcome, PAIRS, margin=config.margin)
    headline = decide(comparisons, config.margin)
    page = Page("Is it the information?", headline)
    page.heading("The real signal against its replacements")
    comparison_section(page, comparisons, outcome=OUTCOME, margin=config.margin)
    page.heading("The arms")
    page.table(
        [
            "arm",
            "the multiplier is given",
            OUTCOME,
            "last accuracy",
            "mean ρ",
            "mean I (nats)",
            "steps at the cap",
        ],
        [
            [
                name,
                GIVEN[name],
                share_over_seeds(outcome[name].mean(1)),
                share_over_seeds(final[name].mean(1)),
                over_seeds([mean_of(r, "pgpo/rho") for r in runs]),
                over_seeds([mean_of(r, "pgpo/information") for r in runs]),
                float(np.mean([r.series("pgpo/clipped_count")[1][-1] for r in runs])),
            ]
            for name, runs in records.items()
        ],
        caption="Means over seeds with 95 % t-intervals over seeds. I is what was measured, "
        "whatever the multiplier was given.",
    )
    page.heading("Curves")
    _curves(page, records)
    fixed_in_advance(page, __doc__)
    write_results(
        sweep,
        page,
        {
            "seeds": seeds,
            "comparisons": [c.to_json() for c in comparisons],
            "arms": {
                name: {
                    "outcome": share_over_seeds(outcome[name].mean(1)),
                    "last": share_over_seeds(final[name].mean(1)),
                    "rho": over_seeds([mean_of(r, "pgpo/rho") for r in runs]),
                    "information": over_seeds([mean_of(r, "pgpo/information") for r in runs]),
                }
                for name, runs in records.items()
            },
        },
        command=command,
        verdict=f"{headline} In {OUTCOME}: {in_words(comparisons)}.",
        text=__doc__ or "",
    )
    return f"{headline}\n{in_words(comparisons)}"


def _curves(page: Page, records: Records) -> None:
    shown = ("real", "sdpo", "constant", "shuffled", "other_seed", "mirrored", "flipped")
    for metric, title, label, note in (
        (
            "eval/accuracy",
            "Held-out accuracy",
            "share of right answers",
            "Mean over seeds; the band is its 95 % interval.",
        ),
        (
            "pgpo/rho",
            "Step multiplier ρ",
            "ρ (1 = plain step)",
            "What each arm's updates were multiplied by.",
        ),
        (
            "pgpo/information",
            "Information I",
            "nats per token",
            "As measured in each arm, whatever its multiplier was given.",
        ),
    ):
        page.curves(
            mean_curves({name: records[name] for name in shown}, metric),
            title=title,
            x_label="optimizer step",
            y_label=label,
            caption=note,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.falsification`."""
    return run_experiment("falsification", PRESETS, arms, report, argv=argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
