"""What `python -m experiments.falsification` trains and reports."""

from experiments.sweeps.falsification._arms import (
    MATCHED as MATCHED,
    PAIRS as PAIRS,
    PRESETS as PRESETS,
    Config as Config,
    arms as arms,
    replacement as replacement,
)
from experiments.sweeps.falsification._report import report as report
from experiments.sweeps.falsification._verdict import decide as decide
