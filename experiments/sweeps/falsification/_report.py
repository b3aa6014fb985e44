"""The report of the falsification test."""

import numpy as np

from experiments.sweeps._compare import compare
from experiments.sweeps._records import OUTCOME, SETTLED, Records, finished_records, scores
from experiments.sweeps._results import Call, write_results
from experiments.sweeps._sections import comparison_section, curve_section, in_words
from experiments.sweeps._seed_means import arm_means
from experiments.sweeps._sweep import Sweep
from experiments.sweeps.falsification._arms import GIVEN, PAIRS, Config
from experiments.sweeps.falsification._verdict import decide
from pgpo_jax.reports import Page


def report(config: Config, sweep: Sweep, call: Call) -> str:
    """Writes the report; returns the verdict."""
    seeds, records = finished_records(sweep)
    table = arm_means(records, information="pgpo/information")
    comparisons = compare(scores(records, SETTLED), PAIRS, margin=config.margin)
    headline = decide(comparisons, config.margin)
    page = Page("Is it the information?", headline)
    page.heading("The real signal against its replacements")
    comparison_section(page, comparisons, outcome=OUTCOME, margin=config.margin)
    page.heading("The arms")
    page.table(
        [
            "arm",
            "the multiplier is given",
            OUTCOME,
            "last accuracy",
            "mean ρ",
            "mean I (nats)",
            "steps at the cap",
        ],
        [
            [
                name,
                GIVEN[name],
                *(table[name][key] for key in ("outcome", "last", "rho", "information")),
                float(np.mean([r.series("pgpo/clipped_count")[1][-1] for r in runs])),
            ]
            for name, runs in records.items()
        ],
        caption="Means over seeds with 95 % t-intervals over seeds. I is what was measured, "
        "whatever the multiplier was given.",
    )
    page.heading("Curves")
    _curves(page, records)
    write_results(
        sweep,
        page,
        {
            "seeds": seeds,
            "comparisons": [c.to_json() for c in comparisons],
            "arms": table,
        },
        call=call,
        verdict=f"{headline} In {OUTCOME}: {in_words(comparisons)}.",
    )
    return f"{headline}\n{in_words(comparisons)}"


def _curves(page: Page, records: Records) -> None:
    shown = ("real", "sdpo", "constant", "shuffled", "other_seed", "mirrored", "flipped")
    for metric, title, label, note in (
        (
            "eval/accuracy",
            "Held-out accuracy",
            "share of right answers",
            "Mean over seeds; the band is its 95 % interval.",
        ),
        (
            "pgpo/rho",
            "Step multiplier ρ",
            "ρ (1 = plain step)",
            "What each arm's updates were multiplied by.",
        ),
        (
            "pgpo/information",
            "Information I",
            "nats per token",
            "As measured in each arm, whatever its multiplier was given.",
        ),
    ):
        curve_section(
            page,
            {name: records[name] for name in shown},
            metric,
            title=title,
            label=label,
            note=note,
        )
