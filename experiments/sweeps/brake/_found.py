"""What is measured in a setting: areas, collapses and their comparisons."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from experiments.sweeps._collapse import collapse_step
from experiments.sweeps._compare import Comparison, compare
from experiments.sweeps._records import Records, scores
from experiments.sweeps._shares import SharesCompared, compare_shares
from experiments.sweeps._sittings import finished_part
from experiments.sweeps._sweep import Sweep
from experiments.sweeps.brake._arms import CONTROLS, VARIANTS, Config, arms_of
from experiments.sweeps.brake._settings import SETTINGS, Setting, SettingName

AREA = "area under held-out accuracy"


@dataclass(frozen=True)
class Found:
    """One setting's runs, at the seeds at which all its arms are finished.

    Attributes:
        name: of the setting.
        seeds: of the runs.
        records: the runs of each arm.
        areas: by arm, the share of right answers to each question, averaged over all evaluations
            after the first. It is the area under the accuracy over the length of the run.
        collapsed: by arm, for each seed.
        areas_compared: the brake against each control.
        collapses_compared: likewise.
        variants_compared: each variant of the brake against it, in area.
    """

    name: SettingName
    seeds: Sequence[int]
    records: Records
    areas: Mapping[str, Float[np.ndarray, "S Q"]]
    collapsed: Mapping[str, Bool[np.ndarray, " S"]]
    areas_compared: Sequence[Comparison]
    collapses_compared: Sequence[SharesCompared]
    variants_compared: Sequence[Comparison]

    @property
    def setting(self) -> Setting:
        """Where it is."""
        return SETTINGS[self.name]


def found_in(config: Config, sweep: Sweep, name: SettingName) -> Found | None:
    """What a setting's finished runs say; `None` with fewer than 2 seeds at which all arms are."""
    part = finished_part(sweep, dataclasses.replace(config, settings=(name,), arms=()))
    if part is None:
        return None
    seeds, records = part
    runs = {arm: records[f"{name}-{arm}"] for arm in arms_of(name)}
    return measured(name, seeds, runs, margin=config.margin)


def measured(name: SettingName, seeds: Sequence[int], runs: Records, *, margin: float) -> Found:
    """Areas and collapses of the arms of a setting, and the families of their comparisons."""
    areas = scores(runs, lambda steps: steps[1:])
    collapsed = {
        arm: np.array([collapse_step(run) is not None for run in of_arm])
        for arm, of_arm in runs.items()
    }
    controls = [("brake", arm) for arm in CONTROLS if arm in runs]
    variants = [(arm, "brake") for arm in VARIANTS if arm in runs]
    return Found(
        name,
        seeds,
        runs,
        areas,
        collapsed,
        compare(areas, controls, margin=margin),
        compare_shares(collapsed, controls),
        compare(areas, variants, margin=margin),
    )
