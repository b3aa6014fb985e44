"""What `python -m experiments.stability` trains and reports."""

from experiments.sweeps.stability._arms import (
    PRESETS as PRESETS,
    Config as Config,
    Setting as Setting,
    arms as arms,
)
from experiments.sweeps.stability._report import report as report
