"""What `python -m experiments.baselines` trains and reports."""

from experiments.sweeps.baselines._arms import (
    MULTIPLIERS as MULTIPLIERS,
    PAIRS as PAIRS,
    PRESETS as PRESETS,
    Config as Config,
    arms as arms,
)
from experiments.sweeps.baselines._report import report as report
