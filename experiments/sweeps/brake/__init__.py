"""What `python -m experiments.brake` trains and reports."""

from experiments.sweeps.brake._alarm import (
    Alarm as Alarm,
    alarm_in as alarm_in,
    alarm_verdict as alarm_verdict,
)
from experiments.sweeps.brake._arms import (
    ARMS as ARMS,
    CONTROLS as CONTROLS,
    CORE as CORE,
    PRESETS as PRESETS,
    VARIANTS as VARIANTS,
    Config as Config,
    arms as arms,
    arms_of as arms_of,
)
from experiments.sweeps.brake._found import (
    AREA as AREA,
    Found as Found,
    found_in as found_in,
    measured as measured,
)
from experiments.sweeps.brake._report import report as report
from experiments.sweeps.brake._schedules import (
    as_signal as as_signal,
    before_negative as before_negative,
    best_step as best_step,
    cosine as cosine,
    taken as taken,
    until as until,
)
from experiments.sweeps.brake._settings import (
    PRIMARY as PRIMARY,
    SETTINGS as SETTINGS,
    Setting as Setting,
    level as level,
    neighbour as neighbour,
    placed as placed,
)
from experiments.sweeps.brake._verdict import (
    cause as cause,
    costs as costs,
    in_words as in_words,
    saves as saves,
)
