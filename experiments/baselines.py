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

from experiments.sweeps import run_experiment
from experiments.sweeps.baselines import PRESETS, arms, report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.baselines`."""
    return run_experiment("baselines", PRESETS, arms, report, argv=argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
