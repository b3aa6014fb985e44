"""The page of `experiments.brake`."""

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from experiments.sweeps._collapse import collapse_step
from experiments.sweeps._results import Call, write_results
from experiments.sweeps._sections import comparison_section, curve_section, shares_section
from experiments.sweeps._seed_means import mean_of, over_seeds, share_over_seeds
from experiments.sweeps._shares import share
from experiments.sweeps._sittings import parts_found
from experiments.sweeps._sweep import Sweep
from experiments.sweeps.brake._alarm import Alarm, alarm_in, alarm_verdict
from experiments.sweeps.brake._arms import CORE, GIVEN, Config, arms_of
from experiments.sweeps.brake._found import AREA, Found, found_in
from experiments.sweeps.brake._settings import SettingName, level
from experiments.sweeps.brake._verdict import in_words
from pgpo_jax.reports import Cell, Page, RunRecord


def report(config: Config, sweep: Sweep, call: Call) -> str:
    """Writes the report of all settings that have finished seeds; returns the verdicts.

    Raises:
        ValueError: if no setting has 2 seeds at which all its arms are finished.
    """
    names = get_args(SettingName)
    what = f"a setting (of {names[0]} they are {', '.join(arms_of(names[0]))})"
    found = parts_found(sweep, names, lambda name: found_in(config, sweep, name), what)
    alarms = {name: alarm_in(part.records["sdpo"]) for name, part in found.items()}
    alarm = alarm_verdict(alarms, config.planned)
    verdict = "; ".join(in_words(part, config.planned) for part in found.values())
    verdict += f". The alarm I < 0: {alarm}."
    missing = [name for name in names if name not in found]
    if missing:
        verdict += f" Not finished: {', '.join(missing)}."
    page = Page("Does the brake save a run that would collapse?", verdict)
    for part in found.values():
        _setting_section(page, part, config)
    page.heading("I < 0 as an alarm")
    _alarm_table(page, alarms)
    results = {
        "settings": {name: _plain(part) for name, part in found.items()},
        "alarms": {name: vars(of_setting) for name, of_setting in alarms.items()},
        "alarm": alarm,
    }
    write_results(sweep, page, results, call=call, verdict=verdict)
    return verdict


def _setting_section(page: Page, found: Found, config: Config) -> None:
    page.heading(f"Setting {found.name}")
    page.text(f"{in_words(found, config.planned)}. {_described(found, config)}")
    table = {arm: _row(found, arm) for arm in found.records}
    page.table(
        ["arm", *next(iter(table.values()))],
        [[arm, *row.values()] for arm, row in table.items()],
        caption="Shares of runs with exact 95 % intervals; means over seeds with 95 % t-intervals.",
    )
    page.facts({arm: GIVEN[arm] for arm in found.records}, fold="The arms")
    if found.setting.drawn:
        _level_table(page, found)
    shares_section(page, found.collapses_compared, len(found.seeds), what="runs that collapse")
    comparison_section(page, found.areas_compared, outcome=AREA, margin=config.margin)
    if found.variants_compared:
        page.text("Variants of the brake against it, a family of its own that decides nothing.")
        comparison_section(page, found.variants_compared, outcome=AREA, margin=config.margin)
    shown = {arm: runs for arm, runs in found.records.items() if arm in CORE}
    for metric, title, label in (
        ("eval/accuracy", "Held-out accuracy", "share of right answers"),
        ("pgpo/rho", "Step multiplier ρ", "ρ (1 = plain step)"),
        ("pgpo/information", "Information I", "nats per token"),
    ):
        curve_section(page, shown, metric, title=f"{title}, {found.name}", label=label)


def _described(found: Found, config: Config) -> str:
    """What the setting is, in words."""
    setting, run = found.setting, found.records["sdpo"][0]
    drawn = " (drawn per seed)"
    base = config.training.optimizer.learning_rate

    def told(value: float | Sequence[float], unit: float = 1.0) -> str:
        if isinstance(value, Sequence):
            return ", ".join(f"{x * unit:.3g}" for x in value) + drawn
        return f"{value * unit:.3g}"

    return (
        f"Teacher {setting.teacher}, learning rate {told(setting.rate, base)}, chance of a "
        f"misleading solution {told(setting.misleading)}, {run.config['steps']} steps."
    )


def _row(found: Found, arm: str) -> Mapping[str, Cell]:
    runs, fallen = found.records[arm], found.collapsed[arm]
    falls = [step for run in runs if (step := collapse_step(run)) is not None]
    points = [[interval.value for _, interval in run.accuracies()] for run in runs]
    ends = np.array([of_run[-1] < max(of_run) / 2 for of_run in points])
    return {
        "runs that collapse": share(int(fallen.sum()), len(runs)),
        "median step of collapse": float(np.median(falls)) if falls else None,
        "ends below half of its highest": share(int(ends.sum()), len(runs)),
        AREA: share_over_seeds(found.areas[arm].mean(1)),
        "highest accuracy": share_over_seeds([max(of_run) for of_run in points]),
        "last accuracy": share_over_seeds([_last(run) for run in runs]),
        "mean ρ": over_seeds([mean_of(run, "pgpo/rho") for run in runs]),
        "mean I (nats)": over_seeds([mean_of(run, "pgpo/information") for run in runs]),
    }


def _last(run: RunRecord) -> float:
    return float(np.mean(list(run.scores[max(run.scores)].values())))


def _level_table(page: Page, found: Found) -> None:
    levels = np.array([level(seed) for seed in found.seeds])
    chosen = sorted({*levels.tolist()})
    page.table(
        ["arm", *(f"level {number + 1}" for number in chosen)],
        [
            [
                arm,
                *(
                    f"{int(fallen[levels == number].sum())} of {int((levels == number).sum())}"
                    for number in chosen
                ),
            ]
            for arm, fallen in found.collapsed.items()
        ],
        caption="Runs that collapse, by the level that their seed has.",
    )


def _alarm_table(page: Page, alarms: Mapping[str, Alarm]) -> None:
    page.table(
        [
            "setting",
            "SDPO runs",
            "that collapse",
            "of these with an alarm in time",
            "of the others with an alarm",
            "median lead (steps)",
            "shortest and longest lead",
        ],
        [
            [
                name,
                alarm.runs,
                alarm.collapsed,
                alarm.sensitivity,
                alarm.false_alarms,
                alarm.median_lead,
                f"{min(alarm.lead)} to {max(alarm.lead)}" if alarm.lead else None,
            ]
            for name, alarm in alarms.items()
        ],
        caption="The alarm is the first step with I < 0. In time: at the last evaluation before "
        "the collapse or earlier. Shares with exact 95 % intervals.",
    )


def _plain(found: Found) -> dict[str, object]:
    return {
        "seeds": list(found.seeds),
        "arms": {arm: _row(found, arm) for arm in found.records},
        "areas": [c.to_json() for c in found.areas_compared],
        "collapses": [c.to_json() for c in found.collapses_compared],
        "variants": [c.to_json() for c in found.variants_compared],
        "collapse steps": {
            arm: [collapse_step(run) for run in runs] for arm, runs in found.records.items()
        },
    }
