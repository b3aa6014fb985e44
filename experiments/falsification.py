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

from experiments.sweeps import run_experiment
from experiments.sweeps.falsification import PRESETS, arms, report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.falsification`."""
    return run_experiment("falsification", PRESETS, arms, report, argv=argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
