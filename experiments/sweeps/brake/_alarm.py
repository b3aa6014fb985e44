"""I < 0 as an alarm: how often it comes before a collapse, and how often without one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.sweeps._collapse import collapse_step, first_negative
from experiments.sweeps._power import FEWEST_SEEDS
from experiments.sweeps._shares import share
from pgpo_jax.reports import Interval, RunRecord

_WANTED, _ALLOWED = 0.8, 0.2


@dataclass(frozen=True)
class Alarm:
    """The alarm in the SDPO runs of a setting.

    Attributes:
        runs: how many.
        collapsed: of them.
        sensitivity: the share of the runs that collapse in which the first I < 0 comes at the last
            evaluation before the collapse, or earlier; `None` if none collapses.
        false_alarms: the share of the other runs in which I < 0 at some step; `None` if there are
            none.
        lead: steps from the alarm to the collapse, of the alarms that come in time.
    """

    runs: int
    collapsed: int
    sensitivity: Interval | None
    false_alarms: Interval | None
    lead: Sequence[int]

    @property
    def median_lead(self) -> float | None:
        """Steps."""
        return float(np.median(self.lead)) if self.lead else None


def alarm_in(runs: Sequence[RunRecord]) -> Alarm:
    """The alarm in some runs, each to its own end."""
    lead, in_time, collapsed, false = [], 0, 0, 0
    for run in runs:
        fall, alarm = collapse_step(run), first_negative(run)
        if fall is None:
            false += alarm is not None
            continue
        collapsed += 1
        if alarm is not None and alarm <= fall - run.config["evaluation"]["every"]:
            in_time += 1
            lead.append(fall - alarm)
    others = len(runs) - collapsed
    return Alarm(
        len(runs),
        collapsed,
        share(in_time, collapsed) if collapsed else None,
        share(false, others) if others else None,
        lead,
    )


def alarm_verdict(
    alarms: Mapping[str, Alarm], planned: int
) -> Literal["holds", "refuted", "undecided", "too few seeds"]:
    """Of the collapses of `live` and the quiet runs of `healthy`."""
    if any(
        name not in alarms or alarms[name].runs < max(planned, FEWEST_SEEDS)
        for name in ("live", "healthy")
    ):
        return "too few seeds"
    heard, false = alarms["live"].sensitivity, alarms["healthy"].false_alarms
    if heard is None or false is None:
        return "undecided"
    if heard.low >= _WANTED and false.high <= _ALLOWED:
        return "holds"
    return "refuted" if heard.high < _WANTED or false.low > _ALLOWED else "undecided"
