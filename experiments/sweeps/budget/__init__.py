"""What `python -m experiments.budget` trains and reports."""

from experiments.sweeps.budget._arms import (
    CONTROLS as CONTROLS,
    PRESETS as PRESETS,
    Config as Config,
    arms as arms,
)
from experiments.sweeps.budget._report import (
    report as report,
    saves as saves,
    size_counts as size_counts,
)
