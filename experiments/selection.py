"""Scale the step or select the questions? PGPO beside InFlow: `python -m experiments.selection`.

InFlow (arXiv 2609.36695) is the nearest neighbour of PGPO. Both ask how far a context moves what a
model believes. PGPO scales the step by the answer, InFlow trains the questions with the largest
one. We know InFlow from a reader's note. Here the belief is that in the sampled answers
(`loss.weight belief_shift`), and everything but the selection is that of the other arms.

Everything below is to be judged on **fresh seeds, 4000 to 4011**, on the shipped model and its
synthetic questions. Twelve seeds, none is added after a look.

**Fixed in advance** (committed before any run of these seeds):

*Objective.* OPSD with its authors' settings: one context for all responses to a question, so that
the shift of a belief is defined. 24 steps of 8 questions x 8 responses.

*Arms.* `alone`; `pgpo` (alpha = 5, rho_max = 4, as in the family's test); `constant`: the mean rho
of the same seed's `pgpo` at every step; `inflow`: of the 8 questions of a step the 2 with the
largest shift train (share .2, rounded up), as a mean over their tokens; `random`: 2 of 8 by lot, as
a mean over theirs.

*Outcome.* Held-out accuracy averaged over the evaluations from a third of the run on, paired by
seed and question. The smallest difference of interest is .02.

*Comparisons.* One family, Holm over it: `pgpo` against `alone` and against `constant`; `inflow`
against `alone` and against `random`; `inflow` against `pgpo`.

*Verdicts.* "Selecting helps" if `inflow` is better than `alone` and than `random`; **"refuted"** if
it is worse than one of them or within the margin of it; else "undecided". What beats `alone` and
not `random` is a smaller batch. The comparison with `pgpo` is told as it is.
"""

from collections.abc import Sequence

from experiments.sweeps import run_experiment
from experiments.sweeps.selection import PRESETS, arms, report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.selection`."""
    return run_experiment("selection", PRESETS, arms, report, argv=argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
