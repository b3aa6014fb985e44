"""What `python -m experiments.family` trains and reports."""

from experiments.sweeps.family._arms import (
    ARMS as ARMS,
    MULTIPLIERS as MULTIPLIERS,
    OBJECTIVES as OBJECTIVES,
    PRESETS as PRESETS,
    Config as Config,
    arms as arms,
)
from experiments.sweeps.family._report import report as report
from experiments.sweeps.family._told import told as told
from experiments.sweeps.family._verdict import (
    PAIRS as PAIRS,
    Found as Found,
    found_in as found_in,
    measured as measured,
    of_the_family as of_the_family,
)
