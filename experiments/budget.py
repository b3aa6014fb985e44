"""Is the size of the information a radius for the step? `python -m experiments.budget`.

The information budget (`pgpo_jax.scale_by_information_budget`) shortens an update, so that the
policy moves by at most c times I nats per token. It was written after `experiments.brake` had been
reported for the settings `live` and `drawn_rate`. A pilot of one seed (100) saw c = .1, .03 and .3
hold .8 of accuracy or more where SDPO fell to 0. So everything below is to be judged on **fresh
seeds, 2200 to 2215**. Sixteen seeds, none is added after a look.

**Fixed in advance** (committed before any run of these seeds):

*Setting.* That of `live` in `experiments.brake`: live teacher, learning rate 3e-4, 60 steps,
evaluations of 64 questions x 2 samples every 5 steps. SDPO collapsed there in 23 of 24 runs.

*Arms.* `sdpo`; `brake` (alpha = 30, rho_max = 1); `budget` (c = .1); `constant`: the mean rho of
the same seed's `budget` at every step; `radius`: the same trust region, given at every step the
mean of max(I, 0) of the same seed's `budget`; `trust_region`: SDPO whose teacher's logits are mixed
with the initial model's (1 % student). And two brakes by another signal, with the same alpha:
`pointwise` (log-ratio of the sampled tokens) and `contrast` (its mean over right responses minus
that over wrong ones). The estimators `kl` and `js` are never negative, so a brake by them is SDPO.

*Outcomes.* Area: held-out accuracy averaged over all evaluations after the first, paired by seed
and question; the smallest difference of interest is .03. Collapse within the 60 steps, as in
`experiments.brake`, McNemar's exact test.

*Comparisons.* `budget` against `sdpo`, `constant`, `radius`, `brake` and `trust_region`: a family
for each outcome, Holm over it. `pointwise` and `contrast` against `brake` in area are a family that
decides nothing.

*Verdicts.* That the budget saves runs "holds" if it has fewer collapses and a larger area than both
`sdpo` and `constant`, after Holm. It is **"refuted"** if half of its runs collapse, or its area is
worse than that of `constant` or within the margin of it. That the *size of the information* is what
counts "holds" if its area is larger than that of `radius`, and is **"refuted"** if it is worse or
within the margin. Everything else is "undecided".

*Power.* With 16 seeds the first of five comparisons of collapse passes if eight pairs differ, all
one way. The report gives the difference in area that is found with 80 % power.
"""

from collections.abc import Sequence

from experiments.sweeps import run_experiment
from experiments.sweeps.budget import PRESETS, arms, report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.budget`."""
    return run_experiment("budget", PRESETS, arms, report, argv=argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
