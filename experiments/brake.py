"""Does the brake save a run that would collapse? `python -m experiments.brake`.

The brake is Eq. 9 with a large alpha and rho_max = 1: a step is taken in full while the teacher is
surer than the student, and hardly at all once I is near 0 or below. A pilot (issue 17, seeds 100 to
105, live teacher, 3e-4, 60 steps) saw it hold .75 to .91 of accuracy where all six runs of SDPO
fell to 0. Its arms, its alphas and its settings were chosen by what they did there. So everything
below is to be judged on **fresh seeds, 2000 to 2023**, and the schedule is fitted on 2100 to 2107.

**Fixed in advance** (committed before any run of these seeds):

*Settings.* `live`, the primary one: live teacher, 3e-4, 60 steps. `live_long`: 240 steps. `fast`:
live, 1.5e-3. `misled`: live, 3e-4, a shown solution is wrong with chance .6. `ema_fast`: EMA
teacher, 5e-3. `healthy` and `healthy_long`: EMA, 1.5e-4, 60 and 240 steps, where SDPO does not
collapse. `drawn_rate`: live, with a learning rate of 2e-4, 4e-4, 8e-4 or 1.6e-3. `drawn_lies`:
live, 3e-4, with a chance of wrong solutions of 0, .25, .5 or .75. In the drawn settings the four
seeds 4k to 4k + 3 have a level each, in random order, so that the moment of the fall differs.
Evaluations: 64 questions x 2 samples, every 5 steps (long: every 20).

*Arms.* In all settings: `sdpo`; `brake` (alpha = 30); `constant`: the mean rho of the same seed's
brake at every step; `other`: the rho of another seed's brake, in order (in the drawn settings: of
another level); `fitted`: the mean rho by step of the brakes of the eight seeds 2100 to 2107;
`stop`: SDPO until the first I < 0, then no further step. In `live` besides: `cosine`: a half cosine
from 1 to 0 with the same sum of rho as the same seed's brake; `pgpo`: alpha = 1.5, rho_max = 2;
`clip`: SDPO with gradients clipped to .1 instead of 1; `trust_region`: SDPO whose teacher's logits
are mixed with the initial model's (1 % student); `oracle`: SDPO until the evaluation of its highest
held-out accuracy, which it knows by hindsight. And variants of the brake: `weak` (alpha 10),
`steep` (100), `mean` (decay = .8), `delayed` (delay = 1), `floor` (rho_min = .05). A run that stops
goes on to be evaluated with the weights that it has. A schedule is made of the rho of a finished
run. A step in which that run trained nothing (no sequence had a teacher) counts with the rho of the
last step that did.

*Outcomes.* Two, both primary. **Collapse within the horizon**: there is an evaluation from which on
held-out accuracy never again reaches half of the starting model's (as in `experiments.stability`).
A run whose gradient is not finite ten times in a row has collapsed where it stopped and has an
accuracy of 0 from there on. **Area**: held-out accuracy averaged over all evaluations after the
first. Beside them, and deciding nothing: the share of runs that end below half of their own highest
accuracy, the highest and the last accuracy.

*Comparisons.* The brake against each control (`sdpo`, `constant`, `other`, `fitted`, `cosine`,
`stop`, `pgpo`, `clip`, `trust_region`; the settings other than `live` have the first four and
`stop`), paired by seed, in each setting a family of its own for each outcome, Holm over it. Area:
paired by seed and question as in the falsification test, smallest difference of interest .03.
Collapse: McNemar's exact test. The variants against the brake, in area, are another family; it
decides nothing, nor does `oracle`.

*Power.* At 24 seeds the first of nine comparisons of collapse passes if nine pairs differ, all one
way; a difference of .44 in the share of collapses is found so with 80 % power. Six seeds of a
drawn level say little of that level alone.

*Verdicts.* Of `live`, `live_long`, `fast`, `misled` and `ema_fast`, each: "nothing to save" if
fewer than half of SDPO's runs collapse. "Holds": the brake has fewer collapses and a larger area
than both `sdpo` and `constant`, after Holm. **"Refuted"**: at least half of the brake's runs
collapse; or it has no fewer collapses than `constant` after Holm, and its area is worse than that
of `constant` or within the margin of it. Anything else is "undecided". Of `healthy` and
`healthy_long`: the brake "costs nothing" if its area is within the margin of SDPO's or better,
"costs accuracy" if worse, else "undecided".

*Is it the information of this run?* Of `drawn_rate` and `drawn_lies`, each: "a signal" if the
brake's area is larger than those of `other` and of `fitted`, after Holm. **"A schedule"** if it is
worse than one of them or within the margin of it. Else "undecided", and "nothing to save" as above.

*The alarm.* The first step with I < 0 in a run of SDPO. It is in time if it comes at the last
evaluation before the collapse or earlier; it is false in a run that does not collapse. It "holds"
if of the collapses of `live` the 95 % interval of the share with an alarm in time lies above .8,
and that of the share of false alarms in `healthy` below .2; it is "refuted" if one of the intervals
lies on the other side. The other settings are told beside it. Above all the false alarms of those
with a live teacher: if they are common, the alarm tells the teacher and not the run.

*Stop rule.* 24 seeds of a setting; no verdict with fewer, none is added after a look. Settings may
be run in any order and in sittings. What is recommended follows `live`, `live_long` and `healthy`:
the brake is recommended with a live teacher if it holds in the first, is not refuted in the second
and costs nothing in the third.

*Left out.* The learning rate times the mean rho: in 80 runs of the falsification test it had the
same accuracy as `constant` at every evaluation. A clip of the update's norm with equal mean: Adam's
update has a nearly constant norm, and this is `constant` again. A penalty for the KL divergence to
the initial model, which needs a third model in the pass; `trust_region` is its neighbour here. The
brake by other signals (`kl`, `js`, graded ones, the teacher's entropy) and the information budget.

Sittings: `--settings live --arms sdpo brake --seeds 6` trains a part of it, `--report-only` reports
whatever settings are whole.
"""

from collections.abc import Sequence

from experiments.sweeps import run_experiment
from experiments.sweeps.brake import PRESETS, arms, report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.brake`."""
    return run_experiment("brake", PRESETS, arms, report, argv=argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
