"""The report on the shipped language model, with exact values by enumeration."""

from collections.abc import Mapping
from typing import Any

from experiments.estimators._summary import by_estimator
from pgpo_jax.reports import Curve, Interval, Page

Row = Mapping[str, Any]


def language_section(page: Page, shown: Row) -> None:
    """Bias against the exact information, positions, ranks, spread and degraded logits."""
    page.heading("The shipped language model")
    page.text(
        "Feedback: nine solutions of each held-out question, three methods in three wordings. "
        "'Right': the three right ones, which is what SDPO shows; 'any': all nine. The exact "
        "mixture over the solutions is a student for which the model's own information is known; "
        "'model' is the student of training, which has seen none."
    )
    page.table(
        ["feedback", "text by", "student", "estimator", "exact I", "estimate", "bias"],
        [
            [
                row["feedback"],
                "student" if row["law"] == "rollouts" else "teacher",
                row["student"],
                f"{row['estimator']}_gain",
                *(Interval(*row[k]) for k in ("information", "estimate", "bias")),
            ]
            for row in shown["estimates"]
        ],
        caption="Nats per token, with 95 % intervals over questions.",
        digits=4,
    )
    page.curves(
        [
            Curve(row["series"].replace("information", "exact I"), range(1, 1 + len(row["nats"])),
                  row["nats"], colour=i)
            for i, row in enumerate(shown["positions"])
        ],
        title="Where in the response the information is",
        x_label="token of the response",
        y_label="nats",
        caption="Mean over questions and the student's own responses; estimates of the model as "
        "student, right solutions.",
    )  # fmt: skip
    page.curves(
        [
            Curve(
                f"{name}_gain",
                [r["pairs"] for r in rows],
                [r["spearman"] for r in rows],
                [r["interval"][0] for r in rows],
                [r["interval"][1] for r in rows],
                colour=i,
            )
            for i, (name, rows) in enumerate(by_estimator(shown["ranks"]).items())
        ],
        title="Rank fidelity over questions",
        x_label="pairs of response and solution per question",
        y_label="Spearman's correlation with exact I",
        log_x=True,
        y_range=(-1.05, 1.05),
        reference=0.0,
        caption="Questions ranked by the model's estimates; all nine solutions. The questions of "
        "this model hardly differ, so there is little to rank.",
    )
    _details(page, shown)


def _details(page: Page, shown: Row) -> None:
    page.table(
        [
            "estimator",
            "mean (nats)",
            "sd within a question",
            "sd between",
            "design effect of 8 rows",
            "questions needed",
            "negative responses",
        ],
        [
            [
                f"{row['estimator']}_gain",
                Interval(*row["mean"]),
                row["within_sd"],
                row["between_sd"],
                row["design_effect"],
                row["questions_needed"],
                Interval(*row["negative"]),
            ]
            for row in shown["spread"]
        ],
        caption="One response with one right solution, before training. Questions of 8 responses "
        "for a standard error of a quarter of the estimator's own mean.",
        digits=4,
    )
    page.table(
        ["first tokens", "estimator", "exact I", "estimate", "sd of one response"],
        [
            [
                row["length"],
                f"{row['estimator']}_gain",
                Interval(*row["information"]),
                Interval(*row["estimate"]),
                row["sequence_sd"],
            ]
            for row in shown["lengths"]
        ],
        caption="Token means over the beginning of the response; right solutions, model as "
        "student.",
        digits=4,
    )
    page.table(
        ["changed", "setting", "student", "estimator", "bias", "change"],
        [
            [
                row["variant"],
                row["setting"],
                row["student"],
                f"{row['estimator']}_gain",
                Interval(*row["bias"]),
                Interval(*row["change"]),
            ]
            for row in shown["variants"]
        ],
        caption="Logits rounded, tempered or cut; any of the nine solutions, nats per token. Bias "
        "against the exact information, change against float32 logits.",
        digits=4,
    )
    if shown["half_precision"]:
        page.table(
            ["quantity", "float32 model", "bfloat16 model", "change"],
            [
                [row["quantity"], *(Interval(*row[k]) for k in ("float32", "bfloat16", "change"))]
                for row in shown["half_precision"]
            ],
            caption="The whole model in half precision, same texts; nats per token.",
            digits=4,
        )
