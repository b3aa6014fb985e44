"""What `python -m experiments.stability` trains and reports."""

from experiments.sweeps.stability._arms import (
    PRESETS as PRESETS,
    Config as Config,
    Setting as Setting,
    arms as arms,
)
from experiments.sweeps.stability._collapse import (
    collapse_step as collapse_step,
    first_negative as first_negative,
)
from experiments.sweeps.stability._report import report as report
