"""The report: what was measured on joint models, on the language model and along runs."""

from collections.abc import Mapping
from typing import Any

from experiments.estimators._advice import BIAS_LIMIT, ERROR_LIMIT
from experiments.estimators._summary import label
from experiments.estimators.page._batches import batches_section
from experiments.estimators.page._degraded import degraded_section, rho_section, words_section
from experiments.estimators.page._language import language_section
from experiments.estimators.page._runs import runs_section
from pgpo_jax.reports import Page

Row = Mapping[str, Any]


def build_page(results: Mapping[str, Any], summary: Mapping[str, Any]) -> Page:
    """The whole page.

    Args:
        results: every row, for the curves.
        summary: what the tables show, with `provenance` and `config`.
    """
    page = Page(
        "Estimators of the information, against exact values",
        "How much does the feedback tell about the next token, and how well do the estimators "
        "of pgpo_jax.information measure it?",
    )
    if "advice" in summary:
        _advice(page, summary["advice"])
        batches_section(page, summary["discrete"], results["discrete"])
        degraded_section(page, summary["discrete"])
        words_section(page, summary["discrete"])
        rho_section(page, summary["discrete"])
    if "language" in summary:
        language_section(page, summary["language"])
    if "runs" in summary:
        runs_section(page, summary["runs"], results["runs"])
    page.heading("What was run")
    page.facts(summary["seconds"], fold="Seconds of each part")
    page.facts(_flat(summary["config"]), fold="Configuration")
    made = dict(summary["provenance"])
    command = made.pop("command")
    page.facts(made, fold="Machine and versions")
    page.command(command)
    return page


def _advice(page: Page, advice: Row) -> None:
    page.heading("Which estimator, which batch")
    if advice["recommended"] is None:
        page.text("No estimator is admissible.")
    else:
        page.text(
            f"Use {label(advice['recommended'])} and at least {advice['batch']} independent pairs "
            "of question and feedback per batch."
        )
    page.table(
        ["estimator", "largest |bias| / I", "admissible", "pairs needed", "in the cell", "batch"],
        [
            [
                label(row["estimator"]),
                row["worst_relative_bias"],
                "yes" if row["admissible"] else "no",
                row["pairs_needed"],
                "{family}, {vocabulary} words, {aim:g} nats".format(**row["worst_cell"]),
                row["batch"],
            ]
            for row in advice["estimators"]
        ],
        caption=f"The rule: bias at most {BIAS_LIMIT:.0%} of the information I in every cell, and "
        f"the pairs after which the standard error is {ERROR_LIMIT:.0%} of I in the worst cell. "
        "Exact values, with the marginal as the student.",
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else None
        flat |= {prefix + name: value} if inner is None else inner
    return flat
