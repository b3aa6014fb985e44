"""How well the estimators measure a known information: `python -m experiments.estimators`."""

from experiments.estimators._command import (
    PRESETS as PRESETS,
    Config as Config,
    main as main,
    measure as measure,
)
