"""The page of `experiments.family`."""

from functools import partial
from typing import get_args

from experiments.sweeps._power import FEWEST_SEEDS
from experiments.sweeps._records import OUTCOME
from experiments.sweeps._results import Call, write_results
from experiments.sweeps._sections import comparison_section, curve_section
from experiments.sweeps._seed_means import arm_means
from experiments.sweeps._sittings import parts_found
from experiments.sweeps._sweep import Sweep
from experiments.sweeps.family._arms import (
    ARMS,
    GIVEN,
    MULTIPLIERS,
    OBJECTIVES,
    Config,
    ObjectiveName,
)
from experiments.sweeps.family._verdict import Found, found_in, of_the_family
from pgpo_jax.reports import Page


def report(config: Config, sweep: Sweep, call: Call) -> str:
    """Tells of each objective that is whole; see `parts_found` for what is refused."""
    names = get_args(ObjectiveName)
    found = parts_found(
        sweep, names, partial(found_in, config, sweep), f"an objective ({', '.join(ARMS)})"
    )
    said = {
        multiplier: {name: part.helps(multiplier, config.planned) for name, part in found.items()}
        for multiplier in MULTIPLIERS
    }
    family = {name: of_the_family(found, name, config.planned) for name in MULTIPLIERS}
    verdict = " ".join(
        f"{multiplier}: {family[multiplier]} over the family; "
        + ", ".join(f"{name} {answer}" for name, answer in answers.items())
        + "."
        for multiplier, answers in said.items()
    )
    missing = [name for name in names if name not in found]
    if missing:
        verdict += f" Not finished: {', '.join(missing)}."
    page = Page("Does it help to scale the steps of other objectives by information?", verdict)
    page.table(
        ["objective", "its teacher reads", "seeds", *MULTIPLIERS],
        [
            [name, OBJECTIVES[name], len(part.seeds), *(said[m][name] for m in MULTIPLIERS)]
            for name, part in found.items()
        ],
        caption=f"A verdict needs {max(config.planned, FEWEST_SEEDS)} seeds.",
    )
    page.facts(GIVEN, fold="The arms")
    for part in found.values():
        _objective_section(page, part, config)
    results = {
        "helps": said,
        "family": family,
        "objectives": {
            name: {
                "seeds": list(part.seeds),
                "arms": arm_means(part.records),
                "comparisons": [c.to_json() for c in part.compared],
            }
            for name, part in found.items()
        },
    }
    write_results(sweep, page, results, call=call, verdict=verdict)
    return verdict


def _objective_section(page: Page, found: Found, config: Config) -> None:
    page.heading(f"Objective {found.name}")
    page.table(
        ["arm", OUTCOME, "last accuracy", "mean ρ", "mean I (nats)"],
        [
            [arm, *row.values()]
            for arm, row in arm_means(found.records, information="pgpo/information").items()
        ],
        caption="Means over seeds with 95 % t-intervals over seeds.",
    )
    comparison_section(page, found.compared, outcome=OUTCOME, margin=config.margin)
    curve_section(
        page,
        found.records,
        "eval/accuracy",
        title=f"Held-out accuracy, {found.name}",
        label="share of right answers",
    )
