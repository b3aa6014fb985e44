"""What `python -m experiments.real_model` trains and reports."""

from experiments.sweeps.real_model._arms import (
    PAIRS as PAIRS,
    PRESETS as PRESETS,
    Config as Config,
    arms as arms,
)
from experiments.sweeps.real_model._report import readable as readable, report as report
