"""The page of `experiments.budget`, and its verdicts."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from experiments.sweeps._collapse import collapse_step
from experiments.sweeps._compare import Comparison, compare
from experiments.sweeps._power import FEWEST_SEEDS
from experiments.sweeps._records import finished_records, scores
from experiments.sweeps._results import Call, write_results
from experiments.sweeps._sections import comparison_section, curve_section, shares_section
from experiments.sweeps._seed_means import mean_of, over_seeds, share_over_seeds
from experiments.sweeps._shares import SharesCompared, compare_shares, share
from experiments.sweeps._sweep import Sweep
from experiments.sweeps.brake import AREA
from experiments.sweeps.budget._arms import CONTROLS, GIVEN, SIGNALS, Config
from pgpo_jax.reports import Cell, Page, RunRecord

Answer = Literal["holds", "refuted", "undecided"]
_AT_MOST_AS_GOOD = ("worse", "no difference that matters")
_HALF = 0.5


def saves(
    areas: Sequence[Comparison], collapses: Sequence[SharesCompared], collapsed: float
) -> Answer:
    """Does the budget save runs, and more than a constant of its mean does?

    Args:
        areas: the budget against each control.
        collapses: likewise.
        collapsed: share of its own runs that collapse.
    """
    area = {c.name: c.verdict for c in areas}
    fewer = {c.name: c.verdict == "fewer" for c in collapses}
    names = [f"budget − {arm}" for arm in ("sdpo", "constant")]
    if all(area[name] == "better" and fewer[name] for name in names):
        return "holds"
    if collapsed >= _HALF or area[names[1]] in _AT_MOST_AS_GOOD:
        return "refuted"
    return "undecided"


def size_counts(areas: Sequence[Comparison]) -> Answer:
    """Is it the size of this step's information, or would a fixed radius do?

    Args:
        areas: the budget against each control.
    """
    verdict = next(c.verdict for c in areas if c.name == "budget − radius")
    if verdict == "better":
        return "holds"
    return "refuted" if verdict in _AT_MOST_AS_GOOD else "undecided"


def report(config: Config, sweep: Sweep, call: Call) -> str:
    """Writes the report; returns the verdicts."""
    seeds, records = finished_records(sweep)
    found = scores(records, lambda steps: steps[1:])
    fallen = {
        arm: np.array([collapse_step(run) is not None for run in runs])
        for arm, runs in records.items()
    }
    pairs = [("budget", arm) for arm in CONTROLS]
    areas = compare(found, pairs, margin=config.margin)
    collapses = compare_shares(fallen, pairs)
    others = compare(found, [(arm, "brake") for arm in SIGNALS], margin=config.margin)
    verdict = _too_few(len(seeds), config.planned) or (
        f"With {len(seeds)} seeds, that the budget saves runs: "
        f"{saves(areas, collapses, float(fallen['budget'].mean()))}; that the size of the "
        f"information is what counts: {size_counts(areas)}."
    )
    table = {arm: _row(runs, fallen[arm], found[arm]) for arm, runs in records.items()}
    page = Page("Is the size of the information a radius for the step?", verdict)
    page.heading("The arms")
    page.table(
        ["arm", *next(iter(table.values()))],
        [[arm, *row.values()] for arm, row in table.items()],
        caption="Shares of runs with exact 95 % intervals; means over seeds with 95 % t-intervals.",
    )
    page.facts(GIVEN, fold="What their updates are multiplied by")
    page.heading("The budget against its controls")
    comparison_section(page, areas, outcome=AREA, margin=config.margin)
    shares_section(page, collapses, len(seeds), what="runs that collapse")
    page.heading("Brakes by other signals, against the brake")
    page.text("A family of its own that decides nothing.")
    comparison_section(page, others, outcome=AREA, margin=config.margin)
    page.heading("Curves")
    for metric, title, label in (
        ("eval/accuracy", "Held-out accuracy", "share of right answers"),
        ("pgpo/rho", "Step multiplier ρ", "ρ (1 = plain step)"),
        ("pgpo/information", "Information I", "nats per token"),
    ):
        curve_section(page, records, metric, title=title, label=label)
    results = {
        "seeds": seeds,
        "arms": table,
        "areas": [c.to_json() for c in areas],
        "collapses": [c.to_json() for c in collapses],
        "signals": [c.to_json() for c in others],
    }
    write_results(sweep, page, results, call=call, verdict=verdict)
    return verdict


def _too_few(seeds: int, planned: int) -> str:
    least = max(planned, FEWEST_SEEDS)
    return "" if seeds >= least else f"{seeds} seeds decide nothing: the rules ask for {least}."


def _row(runs: Sequence[RunRecord], fallen: np.ndarray, area: np.ndarray) -> Mapping[str, Cell]:
    last = [float(np.mean(list(run.scores[max(run.scores)].values()))) for run in runs]
    return {
        "runs that collapse": share(int(fallen.sum()), len(runs)),
        AREA: share_over_seeds(area.mean(1)),
        "highest accuracy": share_over_seeds(
            [max(interval.value for _, interval in run.accuracies()) for run in runs]
        ),
        "last accuracy": share_over_seeds(last),
        "mean ρ": over_seeds([mean_of(run, "pgpo/rho") for run in runs]),
        "mean I (nats)": over_seeds([mean_of(run, "pgpo/information") for run in runs]),
    }
