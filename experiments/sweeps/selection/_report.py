from collections.abc import Sequence

from experiments.sweeps._compare import Comparison, compare
from experiments.sweeps._power import too_few
from experiments.sweeps._records import OUTCOME, SETTLED, finished_records, scores
from experiments.sweeps._results import Call, write_results
from experiments.sweeps._sections import comparison_section, curve_section, in_words
from experiments.sweeps._seed_means import arm_means
from experiments.sweeps._sweep import Sweep
from experiments.sweeps.selection._arms import PAIRS, Config
from pgpo_jax.reports import Page


def selecting_helps(comparisons: Sequence[Comparison]) -> str:
    """The verdict on the selection: "helps", "refuted" or "undecided".

    Args:
        comparisons: of the family.
    """
    found = {c.name: c.verdict for c in comparisons}
    own = [found[f"inflow \N{MINUS SIGN} {other}"] for other in ("alone", "random")]
    if all(verdict == "better" for verdict in own):
        return "helps"
    if any(verdict in ("worse", "no difference that matters") for verdict in own):
        return "refuted"
    return "undecided"


def report(config: Config, sweep: Sweep, call: Call) -> str:
    """Writes the report; returns the verdict."""
    seeds, records = finished_records(sweep)
    comparisons = compare(scores(records, SETTLED), PAIRS, margin=config.margin)
    table = arm_means(records)
    verdict = too_few(len(seeds)) or (
        f"With {len(seeds)} seeds, that selecting questions by the shift of beliefs helps: "
        f"{selecting_helps(comparisons)}."
    )
    page = Page("Scale the step or select the questions?", verdict)
    page.heading("PGPO and InFlow against OPSD, each other and their controls")
    comparison_section(page, comparisons, outcome=OUTCOME, margin=config.margin)
    page.heading("The arms")
    page.table(
        ["arm", OUTCOME, "last accuracy", "mean ρ"],
        [[name, row["outcome"], row["last"], row["rho"]] for name, row in table.items()],
        caption="Means over seeds with 95 % t-intervals over seeds.",
    )
    page.heading("Curves")
    curve_section(
        page,
        records,
        "eval/accuracy",
        title="All arms",
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
