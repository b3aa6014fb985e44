"""The report of the study of baselines."""

from experiments.sweeps._compare import compare
from experiments.sweeps._power import too_few
from experiments.sweeps._records import OUTCOME, SETTLED, finished_records, scores
from experiments.sweeps._results import Call, write_results
from experiments.sweeps._sections import comparison_section, curve_section, in_words
from experiments.sweeps._seed_means import arm_means
from experiments.sweeps._sweep import Sweep
from experiments.sweeps.baselines._arms import PAIRS, Config
from pgpo_jax.reports import Page


def report(config: Config, sweep: Sweep, call: Call) -> str:
    """Writes the report; returns the verdict."""
    seeds, records = finished_records(sweep)
    comparisons = compare(scores(records, SETTLED), PAIRS, margin=config.margin)
    table = arm_means(records)
    decided = [c for c in comparisons if c.verdict in ("better", "worse")]
    held = in_words(decided) if decided else "none"
    verdict = (
        too_few(len(seeds)) or f"With {len(seeds)} seeds, differences that hold after Holm: {held}."
    )
    page = Page("Baselines and variants", verdict)
    page.heading("Against SDPO, and against matched controls")
    comparison_section(page, comparisons, outcome=OUTCOME, margin=config.margin)
    page.heading("The arms")
    page.table(
        ["arm", OUTCOME, "last accuracy", "mean ρ"],
        [[name, row["outcome"], row["last"], row["rho"]] for name, row in table.items()],
        caption="Means over seeds with 95 % t-intervals over seeds.",
    )
    page.heading("Curves")
    for title, names in (
        ("Baselines", ("sdpo", "grpo", "warmup", "plateau", "pgpo")),
        ("The signal used otherwise", ("sdpo", "pgpo", "token", "sequence", "adaptive")),
        ("Trust signals", ("sdpo", "pgpo", "outcome", "contrast", "failures")),
    ):
        curve_section(
            page,
            {name: records[name] for name in names},
            "eval/accuracy",
            title=title,
            label="share of right answers",
            note="Held-out accuracy; mean over seeds with its 95 % band.",
        )
    write_results(
        sweep,
        page,
        {"seeds": seeds, "comparisons": [c.to_json() for c in comparisons], "arms": table},
        call=call,
        verdict=f"{verdict} All comparisons: {in_words(comparisons)}.",
    )
    return f"{verdict}\n{in_words(comparisons)}"
