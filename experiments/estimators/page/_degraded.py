"""The report on joint models seen less than exactly: logits, words before, and rho."""

from collections.abc import Mapping
from typing import Any

from experiments.estimators._moments import FEEDBACK_ONLY
from experiments.estimators._summary import label
from pgpo_jax.reports import Curve, Interval, Page

Row = Mapping[str, Any]


def degraded_section(page: Page, shown: Row) -> None:
    """Rounded, tempered and cut logits, and students made of a few teachers."""
    page.heading("Logits that are less than exact")
    lines: dict[tuple[Any, ...], dict[str, Interval]] = {}
    for row in shown["variants"]:
        key = (row["variant"], row["setting"], row["aim"])
        lines.setdefault(key, {})[row["estimator"]] = Interval(*row["relative_bias"])
    page.table(
        ["changed", "setting", "I (nats)", *map(label, FEEDBACK_ONLY)],
        [[*key, *(cells[name] for name in FEEDBACK_ONLY)] for key, cells in lines.items()],
        caption="Bias as a share of I at the largest vocabulary: mean of the two families and, in "
        "brackets, their two values. The top logit is at 20, where bfloat16 is exact to 0.06.",
        digits=2,
    )
    page.table(
        ["teachers in the student", "mean / I", "times m / (m − 1)"],
        [
            [row["shown"], Interval(*row["share"]), Interval(*row["corrected"])]
            for row in shown["mixtures"]
        ],
        caption="kl_gain with the mean of m teachers as the student, vocabularies up to 256: mean "
        "over models, in brackets their range. The student is then a marginal by construction, but "
        "of m feedbacks.",
    )


def words_section(page: Page, shown: Row) -> None:
    """Responses of several lengths, under both laws."""
    page.heading("Responses of many words")
    page.text(
        "The words of a response are drawn given one feedback, and the student learns it from the "
        "words so far, exactly. Paired: the words are the teacher's, and both estimators are "
        "unbiased. Rollouts, as in training: the words are the student's own and the feedback is "
        "independent of them. Then kl_gain also counts how surprised the teacher is by what the "
        "student has come to believe."
    )
    for law in ("paired", "rollouts"):
        rows = [row for row in shown["lengths"] if row["law"] == law]
        lengths = sorted({row["length"] for row in rows})

        def series(
            name: str, field: str, rows: list[Row] = rows, lengths: list[int] = lengths
        ) -> list[float]:
            by_length = {r["length"]: r[field] for r in rows if r["estimator"] == name}
            return [by_length[t] for t in lengths]

        page.curves(
            [
                *(
                    Curve(label(name), lengths, series(name, "mean"), colour=i)
                    for i, name in enumerate(FEEDBACK_ONLY)
                ),
                Curve(
                    "I given the words so far",
                    lengths,
                    series("kl", "information"),
                    colour=7,
                    dash=2,
                ),
                Curve(
                    "I, feedback independent of them",
                    lengths,
                    series("kl", "independent_information"),
                    colour=7,
                    dash=1,
                ),
            ],
            title=f"Response length, {law}",
            x_label="tokens of a response",
            y_label="nats per token",
            log_x=True,
            caption="Two words, eight feedbacks; exact expectations.",
        )


def rho_section(page: Page, shown: Row) -> None:
    """Moments of rho from drawn batches."""
    page.heading("What the multiplier inherits from the estimate")
    page.table(
        ["family", "α", "batch", "estimator", "ρ(I)", "mean ρ", "sd", "1 % to 99 %", "capped"],
        [
            [
                row["family"],
                f"{row['alpha']:g}",
                row["batch"],
                label(row["estimator"]),
                row["rho_of_truth"],
                row["mean"],
                row["sd"],
                "{:.3f} to {:.3f}".format(*row["quantiles"]),
                f"{row['capped']:.1%}",
            ]
            for row in shown["multipliers"]
            if row["batch"] > 1
        ],
        caption=f"I = {shown['information']:g} nats, the largest vocabulary; drawn batches.",
    )
