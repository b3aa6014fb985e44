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

from experiments.sweeps import run_experiment
from experiments.sweeps.stability import PRESETS, arms, report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.stability`."""
    return run_experiment("stability", PRESETS, arms, report, argv=argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
