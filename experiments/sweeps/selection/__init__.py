"""What `python -m experiments.selection` trains and reports."""

from experiments.sweeps.selection._arms import (
    PAIRS as PAIRS,
    PRESETS as PRESETS,
    Config as Config,
    arms as arms,
)
from experiments.sweeps.selection._by_lot import by_lot as by_lot
from experiments.sweeps.selection._report import (
    report as report,
    selecting_helps as selecting_helps,
)
