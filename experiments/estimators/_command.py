"""How well the estimators measure a known information: `python -m experiments.estimators`.

The referee's third comment: error, bias and batch-size sensitivity of the information estimate on
discrete, high-dimensional outputs, and what keeps the multiplier regular. Three parts.

*Joint models* p(f) p(y | f) of 2 to 50,000 words, whose I(Y; F) is a finite sum. The student is the
marginal p(y), a teacher is p(y | f). Bias and standard error are exact (all pairs are enumerated)
and measured on drawn batches; then with rounded, tempered and truncated logits, responses of many
words, students made of a few teachers, and the moments of rho.

*The shipped language model*, with nine solutions of each question as feedback. The exact mixture
over the solutions has the model's own conditional mutual information by enumeration, and the model
without feedback, the student that training uses, is compared with it.

*Short runs* of the `tiny` preset, all estimators on the same batches: moments of rho, its change
per step and per unit of |theta|, and how often the cap holds.

**The rule** behind "use this estimator and at least this batch" uses the joint models alone (its
two limits were chosen before the reported run):

1. an estimator is admissible if its bias is at most 10 % of the information in every cell (family x
   vocabulary x information x model) in which the student is the marginal;
2. its batch is the smallest power of two at which, in every cell, the standard error of one
   estimate is at most a quarter of the information (19 of 20 are then within half of it);
3. recommended is the admissible estimator that needs the fewest pairs.

A batch is counted in independent pairs of feedback and word. The responses to one question are not
independent: the runs' design effect says how many rows stand for one such pair.

Writes results/estimators/<run>/{config.json,results.json,summary.json,report.html,README.md}.
"""

import argparse
import dataclasses
import datetime
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from experiments.estimators._advice import advise
from experiments.estimators._discrete import (
    DiscreteConfig,
    study_batches,
    study_lengths,
    study_ranks,
)
from experiments.estimators._language import LanguageConfig, study_language
from experiments.estimators._report import write_report
from experiments.estimators._run import RunConfig, error_rows, record_run, run_rows
from experiments.sweeps import provenance
from pgpo_jax.paths import with_local_paths

Part = Literal["discrete", "language", "runs"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Bias, variance and rank-fidelity of the information estimators, against exact values."""

    preset: Literal["cpu", "smoke"] = "cpu"
    """`cpu`: what the documentation cites, some minutes on one core; `smoke`: seconds, says
    nothing. Every other flag changes it."""
    parts: tuple[Part, ...] = ("discrete", "language", "runs")
    """What to measure; the joint models are needed for the recommendation."""
    seed: int = 0
    output: Path = Path("results/estimators")
    """Where run folders go."""
    run: str | None = None
    """The run folder's name; by default the time."""
    discrete: DiscreteConfig = dataclasses.field(default_factory=DiscreteConfig)
    language: LanguageConfig = dataclasses.field(default_factory=LanguageConfig)
    training: RunConfig = dataclasses.field(default_factory=RunConfig)


PRESETS = {
    "cpu": Config(),
    "smoke": Config(
        preset="smoke",
        discrete=DiscreteConfig(
            vocabularies=(2, 64),
            information=(0.05,),
            feedbacks=8,
            models=1,
            batches=(1, 16),
            repeats=32,
            rank_models=4,
            lengths=(1, 4),
            sequences=64,
            temperatures=(0.6,),
            top=(4,),
            mixtures=(2, 4),
        ),
        language=LanguageConfig(
            questions=3,
            rollouts=2,
            temperatures=(0.6,),
            top=(5,),
            half_precision_questions=0,
            lengths=(1, 8),
            pairs=(1,),
            repeats=8,
        ),
        training=RunConfig(runs=1, steps=3),
    ),
}


def measure(config: Config) -> dict[str, Any]:
    """All parts that are asked for, as plain rows, with the seconds that each took."""
    discrete, again, language = jax.random.split(jax.random.key(config.seed), 3)
    results: dict[str, Any] = {"seconds": {}}
    for part in config.parts:
        start = time.perf_counter()
        if part == "discrete":
            with jax.enable_x64(True):
                found = study_batches(config.discrete, discrete)
                found["ranks"] = study_ranks(config.discrete, again)
                found["lengths"] = study_lengths(config.discrete, again)
            results["advice"] = advise(found["moments"])
        elif part == "language":
            found = study_language(config.language, language)
        else:
            found = {"multipliers": [], "errors": [], "reported": []}
            for seed in range(config.seed, config.seed + config.training.runs):
                recorded = record_run(config.training, seed)
                found["multipliers"] += run_rows(recorded, config.training, seed)
                found["errors"] += error_rows(recorded, seed)
                found["reported"].append(recorded.reported)
        results[part] = found
        results["seconds"][part] = round(time.perf_counter() - start, 1)
        print(f"{part}: {results['seconds'][part]:.0f} s", flush=True)
    return results


def main(argv: list[str] | None = None) -> int:
    """Runs what the command line asks for.

    Returns:
        0, or 2 for a request that is refused.
    """
    arguments = sys.argv[1:] if argv is None else argv
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", choices=tuple(PRESETS), default="cpu")
    preset = PRESETS[chooser.parse_known_args(arguments)[0].preset]
    config = with_local_paths(
        tyro.cli(
            Config,
            args=arguments,
            prog="python -m experiments.estimators",
            default=preset,
            description=__doc__,
        )
    )
    if not config.parts:
        print("error: parts must name at least one part, got none", file=sys.stderr)
        return 2
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = config.output / (config.run or stamp)
    folder.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.asdict(config) | {"output": str(config.output)}
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    command = shlex.join(["python", "-m", "experiments.estimators", *arguments])
    # Before the work, during which the tree may change.
    made = provenance(command)
    results = measure(config)
    write_report(folder, results, settings, made)
    if "advice" in results:
        advice = results["advice"]
        print(f"recommended: {advice['recommended']}, at least {advice['batch']} pairs")
    print(f"written to {folder}")
    return 0
