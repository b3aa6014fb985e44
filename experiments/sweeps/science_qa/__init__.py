"""What `python -m experiments.science_qa` trains and reports."""

from experiments.sweeps.science_qa._arms import (
    PRESETS as PRESETS,
    Config as Config,
    arms as arms,
    domain_of as domain_of,
    methods as methods,
)
from experiments.sweeps.science_qa._report import report as report
from experiments.sweeps.science_qa._selection import quote as quote, selection as selection
