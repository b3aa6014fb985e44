"""Other ways to do better, under the same controls: `python -m experiments.baselines`.

**Fixed in advance.** Outcome, resampling and margin are those of the falsification test: held-out
accuracy averaged over the evaluations from a third of the run on, paired by seed and question, Holm
over the family, smallest difference of interest 0.02.

*Baselines*: `grpo` (SDPO's own baseline, no teacher); `warmup`: SDPO with twice the warm-up and a
cosine to 0; `plateau`: SDPO with `optax.contrib.reduce_on_plateau`. *Variants of the signal's use*:
`pgpo` (alpha = 5, rho_max = 4, as in the falsification test); `token` and `sequence`: each
divergence weighed by rho of its own information; `adaptive`: an alpha that holds the mean rho at
1.6. *Trust signals*, which see the grade as well as the confidence: `outcome`: the pointwise gain
signed by the grade; `contrast`: its mean over right answers minus that over wrong ones (added after
the other arms had been seen, since `outcome` moves with the teacher's distance alone); `failures`:
the entropy gain of wrong answers alone. Each multiplier of the step has its control, `..._matched`:
its own mean rho at every step.

*Comparisons*: each against `sdpo`, and each multiplier against its control. What beats `sdpo` and
not its control is a longer step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.sweeps._command import DoseConfig, run_experiment
from experiments.sweeps._report import (
    OUTCOME,
    SETTLED,
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
from experiments.sweeps._statistics import compare, too_few
from experiments.sweeps._sweep import Arm, Finished, Sweep
from pgpo_jax.reports import Page
from pgpo_jax.training import TrainConfig

MULTIPLIERS = ("pgpo", "adaptive", "outcome", "contrast", "failures")
PAIRS = (
    *((name, "sdpo") for name in ("grpo", "warmup", "plateau", "token", "sequence", *MULTIPLIERS)),
    *((name, f"{name}_matched") for name in MULTIPLIERS),
)


@dataclass(frozen=True, kw_only=True)
class Config(DoseConfig):
    """SDPO, its rivals, and the variants of the signal with their controls."""

    target_rho: float = 1.6
    """Of the adaptive alpha."""


PRESETS = {
    "smoke": Config(preset="smoke", seeds=2, training=TRAINING["smoke"]),
    "cpu": Config(),
    "gpu": Config(preset="gpu", seeds=20, training=TRAINING["gpu"]),
}


def arms(config: Config) -> list[Arm]:
    """Sixteen arms; the controls wait for what they are matched to."""

    def sdpo(seed: int, **changes: object) -> TrainConfig:
        return changed(config.training, **{"method": "sdpo", "seed": seed, **changes})

    def pgpo(seed: int, modulation: str = "none", **signal: object) -> TrainConfig:
        return changed(config.with_signal(sdpo(seed), **signal), loss={"modulation": modulation})

    def plain(name: str, **changes: object) -> Arm:
        return Arm(name, lambda seed, finished: sdpo(seed, **changes))

    def modulated(name: str, modulation: str = "none", **signal: object) -> Arm:
        return Arm(name, lambda seed, finished: pgpo(seed, modulation, **signal))

    def matched(name: str) -> Arm:
        def build(seed: int, finished: Finished) -> TrainConfig:
            return pgpo(seed, replay=config.constant(finished(name, seed)))

        return Arm(f"{name}_matched", build, lambda seed: [(name, seed)])

    warmup = min(2 * config.training.optimizer.warmup_steps, config.training.steps - 1)
    return [
        plain("sdpo"),
        plain("grpo", method="grpo", teacher={"kind": "live"}),
        plain("warmup", optimizer={"warmup_steps": warmup, "schedule": "cosine"}),
        plain("plateau", optimizer={"plateau": True, "plateau_patience": 5}),
        modulated("pgpo"),
        modulated("token", "token"),
        modulated("sequence", "sequence"),
        modulated("adaptive", target_rho=config.target_rho),
        modulated("outcome", estimator="outcome"),
        modulated("contrast", estimator="outcome_contrast"),
        modulated("failures", rows="failures"),
        *(matched(name) for name in MULTIPLIERS),
    ]


def report(config: Config, sweep: Sweep, command: str) -> str:
    """Writes the report; returns the verdict."""
    seeds, records = finished_records(sweep)
    outcome, final = scores(records, SETTLED), scores(records, last)
    comparisons = compare(outcome, PAIRS, margin=config.margin)
    table = {
        name: {
            "outcome": share_over_seeds(outcome[name].mean(1)),
            "last": share_over_seeds(final[name].mean(1)),
            "rho": over_seeds([mean_of(run, "pgpo/rho") for run in runs]),
        }
        for name, runs in records.items()
    }
    decided = [c for c in comparisons if c.verdict in ("better", "worse")]
    held = in_words(decided) if decided else "none"
    verdict = (
        too_few(len(seeds)) or f"With {len(seeds)} seeds, differences that hold after Holm: {held}."
    )
    page = Page("Baselines and variants", verdict)
    page.heading("Against SDPO, and against matched controls")
    comparison_section(page, comparisons, outcome=OUTCOME, margin=config.margin)
    page.heading("The arms")
    page.table(
        ["arm", OUTCOME, "last accuracy", "mean ρ"],
        [[name, row["outcome"], row["last"], row["rho"]] for name, row in table.items()],
        caption="Means over seeds with 95 % t-intervals over seeds.",
    )
    page.heading("Curves")
    for title, names in (
        ("Baselines", ("sdpo", "grpo", "warmup", "plateau", "pgpo")),
        ("The signal used otherwise", ("sdpo", "pgpo", "token", "sequence", "adaptive")),
        ("Trust signals", ("sdpo", "pgpo", "outcome", "contrast", "failures")),
    ):
        page.curves(
            mean_curves({name: records[name] for name in names}, "eval/accuracy"),
            title=title,
            x_label="optimizer step",
            y_label="share of right answers",
            caption="Held-out accuracy; mean over seeds with its 95 % band.",
        )
    fixed_in_advance(page, __doc__)
    write_results(
        sweep,
        page,
        {"seeds": seeds, "comparisons": [c.to_json() for c in comparisons], "arms": table},
        command=command,
        verdict=f"{verdict} All comparisons: {in_words(comparisons)}.",
        text=__doc__ or "",
    )
    return f"{verdict}\n{in_words(comparisons)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.baselines`."""
    return run_experiment("baselines", PRESETS, arms, report, argv=argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
