"""Does PGPO's multiplier help other objectives? `python -m experiments.family`.

Everything below is to be judged on **fresh seeds, 3000 to 3011**, on the shipped model and its
synthetic questions.

**Fixed in advance** (committed before any run of these seeds):

*Objectives*, each with its authors' settings where they say something (`with_published`): `sdpo`;
`feedback`: SDPO whose teacher reads the grader's words where no peer is right; `opsd` (the data's
solution), `sdft` (a demonstration), `rlsd` (the final answer), `srpo` (right responses learn by
reward). Batch sizes, lengths, optimizer and number of steps are the same for all: 24 steps, and an
evaluation of 128 questions x 2 samples every 4 steps. Objectives are not compared with each other.

*Arms*, of each objective: `alone`; `pgpo` (alpha = 5, rho_max = 4, as in the falsification test);
`constant`: the mean rho of the same seed's `pgpo` at every step; `brake` (alpha = 30, rho_max = 1,
as in the study of the brake); `brake_constant`: the mean rho of the same seed's `brake`. There are
two constants, since one cannot have both means.

*Outcome.* Held-out accuracy averaged over the evaluations from a third of the run on, as in the
falsification test. A run whose gradient is not finite ten times in a row has an accuracy of 0 from
there on.

*Comparisons.* In each objective a family of four: `pgpo` against `alone` and against `constant`,
`brake` against `alone` and against `brake_constant`, paired by seed and question, Holm over the
four. The smallest difference of interest is .02.

*Power.* At 12 seeds the first of four comparisons passes with 80 % power if the difference is 1.13
times its standard deviation between seeds. The report tells this difference for each comparison,
and how many seeds would decide.

*Verdicts.* Of each objective and multiplier: it "helps" if it is better than `alone` and better
than its constant, after Holm. It is **"refuted"** if it is worse than its constant, or within the
margin of it: then a constant step of the same mean does what it does. Else "undecided". Of the
family: a multiplier "helps" if it helps at least two of the six objectives (if it did nothing and
the objectives erred independently, two would come out so in less than 4 % of studies). Else it is
"refuted" if it is refuted in at least four, and "undecided" otherwise. The table tells each.

*Stop rule.* 12 seeds of each objective; no verdict with fewer, none is added after a look.
Objectives may be run in any order and in sittings.

*Left out.* `grpo`, `sft` and `rltf` measure no information. `opd` and `reopold` need another model,
`opcd` a list of experience. `drift` is a router by pass rates of questions that come again, and the
synthetic questions do not.

*Cost.* 6 objectives x 5 arms x 12 seeds = 360 runs of 6 s of a core, 36 core minutes, and the
compilation of three programs an objective in each process (docs/experiments.md).

Sittings: `--objectives opsd --arms alone pgpo --seeds 6` trains a part of it, `--report-only`
reports whatever objectives are whole. `--preset smoke` trains one objective on other seeds and
says nothing.
"""

from collections.abc import Sequence

from experiments.sweeps import run_experiment
from experiments.sweeps.family import PRESETS, arms, report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.family`."""
    return run_experiment("family", PRESETS, arms, report, argv=argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
