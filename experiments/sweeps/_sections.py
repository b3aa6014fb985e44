"""Sections that the reports of several studies have."""

from collections.abc import Sequence

from experiments.sweeps._compare import Comparison
from experiments.sweeps._records import Records
from experiments.sweeps._seed_means import mean_curves
from experiments.sweeps._shares import SharesCompared, detectable_share
from pgpo_jax.reports import Page, interval_figure


def comparison_section(
    page: Page, comparisons: Sequence[Comparison], *, outcome: str, margin: float
) -> None:
    """Table and figure of a family of paired comparisons."""
    page.table(
        [
            "comparison",
            "difference",
            "p, Holm",
            "effect (paired d)",
            "detectable at 80 % power",
            "seeds to decide",
            "verdict",
        ],
        [
            [
                c.name,
                c.difference,
                c.adjusted,
                c.effect,
                c.detectable,
                c.seeds_to_decide,
                c.verdict,
            ]
            for c in comparisons
        ],
        caption=f"Difference in {outcome}, paired by seed and question. Brackets: 95 % intervals "
        "that allow for other seeds and other questions. The smallest difference of interest is "
        f"{margin:g}. Detectable: with 80 % power at the level that the first of the family has to "
        "pass. Seeds to decide: with 80 % power, if the difference is what it seems.",
    )
    page.figure(
        interval_figure(
            [(c.name, c.difference) for c in comparisons],
            x_label=f"difference in {outcome}",
            margin=margin,
        ),
        title="Differences",
        caption="95 % intervals. Shaded: differences that do not matter.",
    )


def in_words(comparisons: Sequence[Comparison]) -> str:
    """A family of comparisons in one line."""
    return "; ".join(f"{c.name} {c.difference.text()} ({c.verdict})" for c in comparisons)


def curve_section(
    page: Page,
    records: Records,
    metric: str,
    *,
    title: str,
    label: str,
    note: str = "Mean over seeds with its 95 % band.",
) -> None:
    """A metric over the steps, a curve for each arm.

    Args:
        page: gets the figure.
        records: of the arms that are shown.
        metric: a name in `metrics.jsonl`; `eval/...` are those of the evaluations.
        title: of the figure.
        label: of its vertical axis.
        note: below it.
    """
    page.curves(
        mean_curves(records, metric),
        title=title,
        x_label="optimizer step",
        y_label=label,
        caption=note,
    )


def shares_section(
    page: Page, compared: Sequence[SharesCompared], seeds: int, *, what: str
) -> None:
    """Adds the table of a family of shares.

    Args:
        page: of the report.
        compared: the family.
        seeds: pairs of runs.
        what: happens to a share of the runs.
    """
    least = detectable_share(seeds, len(compared))
    power = (
        "No difference can pass this family with so few seeds."
        if least is None
        else f"A difference of {least:.2f} that goes one way in all pairs is found with 80 % power."
    )
    page.table(
        [
            what,
            "first",
            "second",
            "first alone",
            "second alone",
            "difference",
            "p, Holm",
            "verdict",
        ],
        [
            [
                c.name,
                c.first,
                c.second,
                c.only_first,
                c.only_second,
                c.difference,
                c.adjusted,
                c.verdict,
            ]
            for c in compared
        ],
        caption="Paired by seed; McNemar's exact test, Holm over the family. Shares with exact "
        f"95 % intervals, differences with Agresti and Min's. {power}",
    )
