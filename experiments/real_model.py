"""A pretrained model on real questions: does SDPO teach it, and what does the multiplier do?
`python -m experiments.real_model --training.task .../chemistry/train.json`.

SmolLM2-135M-Instruct (`make smollm2`) after a warm start of a few steps (`experiments.shown_rows`
and `pgpo sft`; docs/real-model.md has the commands and tells why), on SciKnowEval's chemistry
questions of at most 112 tokens, answered by an option letter. All weights, float32, two questions
of 8 responses in a step, 8 steps. The task is a path on your machine, for its rows are not part of
this repository.

**Fixed in advance** (before any run of seed 3 or later; the pilot, two steps, had seed 0):

*Arms.* `sdpo`; `pgpo` (alpha = 1.5, the largest of the paper, with rho_max = 4; the pilot's I of
0.5 to 0.6 nats gives a rho of about 2.2); `brake` (alpha = 30, rho_max = 1:
it can only take shorter steps); `constant` (the mean rho of the same seed's `pgpo` run at every
step).

*Primary outcome.* avg@8 at temperature 1 on all held-out questions that are short enough, at the
last evaluation. First, the change from the first evaluation, for each arm: a model has learnt
something if its interval is above 0. Then `pgpo` against `sdpo`, `pgpo` against `constant` and
`brake` against `sdpo`, paired by seed and question, Holm over the three.

*Smallest difference of interest*: 0.03 of accuracy. Fewer than 6 seeds decide no comparison; their
intervals are told as they are.

*What accuracy can rise by.* A model that names an option, whatever the question, is right in about
a quarter of the cases, and one that always names the commonest letter in a little more. So the
report tells the share of answers in which a letter can be read, and the share of the commonest
letter, beside the accuracy.

The live teacher is the same command with `--training.teacher.kind live` and another `--output`.
"""

from collections.abc import Sequence

from experiments.sweeps import run_experiment
from experiments.sweeps.real_model import PRESETS, arms, report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.real_model`."""
    return run_experiment("real_model", PRESETS, arms, report, argv=argv, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())
