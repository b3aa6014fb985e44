"""The report: what was measured on joint models, on the language model and along runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments._estimators_advice import BIAS_LIMIT, ERROR_LIMIT
from experiments._estimators_moments import FEEDBACK_ONLY, SIGNALS
from experiments._estimators_summary import label
from pgpo_jax.reports import Curve, Interval, Page

Row = Mapping[str, Any]
_Z = 1.959963984540054


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
        _batches(page, summary["discrete"], results["discrete"])
        _degraded(page, summary["discrete"])
        _rho(page, summary["discrete"])
    if "language" in summary:
        _language(page, summary["language"])
    if "runs" in summary:
        _runs(page, summary["runs"], results["runs"])
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


def _batches(page: Page, shown: Row, every: Row) -> None:
    page.heading("Bias and standard error on joint models")
    page.text(
        f"Feedback and word have a known joint law with I(Y; F) = {shown['information']:g} nats. "
        "Dense: a feedback moves every word's logit a little; sparse: it raises one word. The "
        "student is the marginal. Bias and error are nats per word.\n\n"
        "kl_gain and entropy_gain have the same expectation, the information. The entropy "
        "difference of one feedback is of first order in what the feedback changes and cancels on "
        "average; the divergence is of second order, as the information itself. So the smaller the "
        "information, the more pairs entropy_gain needs, while kl_gain always needs about as many."
    )
    for family in ("dense", "sparse"):
        rows = [row for row in shown["moments"] if row["family"] == family]
        page.table(
            ["vocabulary", "batch", *SIGNALS.values()],
            _wide(rows, lambda r: _centred(r["drawn_bias"], r["drawn_bias_error"])),
            caption=f"Bias, {family} family: mean of the drawn batches minus the exact "
            "information, with its 95 % interval.",
            digits=4,
        )
        page.table(
            ["vocabulary", "batch", *SIGNALS.values()],
            _wide(rows, lambda r: f"{r['standard_error']:.4f} ({r['drawn_standard_error']:.4f})"),
            caption=f"Standard error of one batch, {family} family: exact (drawn).",
        )
    page.text(
        f"Drawn and exact means agree: the largest |z| of {shown['z_values']} is "
        f"{shown['largest_z']:.2f}."
    )
    _error_curves(page, every["moments"], shown["information"])
    _rank_curves(page, shown["ranks"])
    page.table(
        ["information", "batch", *SIGNALS.values()],
        _wide(shown["signs"], lambda r: Interval(*r["negative"]), ("aim", "batch")),
        caption="Share of negative estimates over all families and vocabularies, with 95 % "
        "intervals. kl_gain and js_gain are never negative; entropy_gain is, for single feedbacks.",
        digits=4,
    )


def _wide(
    rows: Iterable[Row], cell: Any, index: tuple[str, str] = ("vocabulary", "batch")
) -> list[list[Any]]:
    """One line per index, one column per estimator."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        lines.setdefault(tuple(row[i] for i in index), {})[row["estimator"]] = cell(row)
    unit = "words" if index[0] == "vocabulary" else "nats"
    return [
        [f"{first:,} {unit}", batch, *(cells.get(name) for name in SIGNALS)]
        for (first, batch), cells in lines.items()
    ]


def _centred(value: float, error: float) -> Interval:
    return Interval(value, value - _Z * error, value + _Z * error)


def _error_curves(page: Page, moments: Sequence[Row], aim: float) -> None:
    largest = max(row["vocabulary"] for row in moments)
    batches = sorted({row["batch"] for row in moments})
    aims, smallest = sorted({row["aim"] for row in moments}), batches[0]

    def shares(name: str, **fixed: Any) -> list[float]:
        return [
            row["standard_error"] / row["information"]
            for row in moments
            if row["estimator"] == name and all(row[k] == v for k, v in fixed.items())
        ]

    def band(points: list[list[float]]) -> dict[str, Any]:
        return {
            "y": [float(np.mean(p)) for p in points],
            "low": [min(p) for p in points],
            "high": [max(p) for p in points],
        }

    page.curves(
        [
            Curve(
                label(name),
                batches,
                **band([shares(name, vocabulary=largest, aim=aim, batch=b) for b in batches]),
                colour=i,
            )
            for i, name in enumerate(SIGNALS)
        ],
        title=f"Standard error, {largest:,} words",
        x_label="batch (independent pairs)",
        y_label="standard error / I",
        log_x=True,
        log_y=True,
        reference=ERROR_LIMIT,
        caption=f"I = {aim:g} nats. Line: mean over families and models; band: their range. "
        "Horizontal: the limit of the rule.",
    )
    needed = [
        Curve(
            label(name),
            aims,
            **band(
                [
                    [smallest * (s / ERROR_LIMIT) ** 2 for s in shares(name, aim=a, batch=smallest)]
                    for a in aims
                ]
            ),
            colour=i,
        )
        for i, name in enumerate(SIGNALS)
    ]
    page.curves(
        needed,
        title="Pairs needed",
        x_label="information I (nats)",
        y_label="independent pairs",
        log_x=True,
        log_y=True,
        caption="For a standard error of a quarter of I; mean and range over all families, "
        "vocabularies and models.",
    )


def _rank_curves(page: Page, ranks: Sequence[Row]) -> None:
    for family in ("dense", "sparse"):
        curves = []
        for i, name in enumerate(SIGNALS):
            rows = [r for r in ranks if r["estimator"] == name and r["family"] == family]
            curves.append(
                Curve(
                    label(name),
                    [r["batch"] for r in rows],
                    [r["spearman"] for r in rows],
                    [r["interval"][0] for r in rows],
                    [r["interval"][1] for r in rows],
                    colour=i,
                    # It ranks as kl_gain does and would hide its line.
                    dash=1 if name == "js" else None,
                )
            )
        page.curves(
            curves,
            title=f"Rank fidelity, {family}, {ranks[0]['vocabulary']:,} words",
            x_label="batch (independent pairs)",
            y_label="Spearman's correlation with I",
            log_x=True,
            y_range=(-1.05, 1.05),
            reference=0.0,
            caption="Models of different information, each estimated from one batch; band: 95 % of "
            "single rankings. Scored on the student's words, the pointwise signal ranks backwards.",
        )


def _degraded(page: Page, shown: Row) -> None:
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


def _rho(page: Page, shown: Row) -> None:
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


def _language(page: Page, shown: Row) -> None:
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
            for i, (name, rows) in enumerate(_by_estimator(shown["ranks"]).items())
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


def _by_estimator(rows: Sequence[Row]) -> dict[str, list[Row]]:
    names = dict.fromkeys(row["estimator"] for row in rows)
    return {name: [row for row in rows if row["estimator"] == name] for name in names}


def _runs(page: Page, shown: Row, every: Row) -> None:
    page.heading("Along a run")
    rows = [r for r in every["multipliers"] if r["reduction"] == "sequence_mean"]
    alpha = min(row["alpha"] for row in rows)
    rows = [row for row in rows if row["alpha"] == alpha]
    seed = rows[0]["seed"]
    first = _by_estimator([row for row in rows if row["seed"] == seed])
    for field, title, caption in (
        ("information", "Signal on the batches", "Each step's own batch."),
        ("probe_information", "Signal on the probe", "One batch that is never trained on."),
    ):
        page.curves(
            [
                Curve(f"{name}_gain", range(1, 1 + len(found[0][field])), found[0][field], colour=i)
                for i, (name, found) in enumerate(first.items())
            ],
            title=title,
            x_label="optimizer step",
            y_label="nats per token",
            reference=0.0,
            caption=f"SDPO, tiny preset, seed {seed}. {caption}",
        )
    page.table(
        [
            "seed",
            "reduction",
            "α",
            "estimator",
            "mean ρ",
            "sd",
            "lowest",
            "highest",
            "capped",
            "median |Δρ|, batches",
            "median |Δρ|, probe",
            "largest |Δρ| / |Δθ|, probe",
        ],
        [
            [
                row["seed"],
                row["reduction"],
                f"{row['alpha']:g}",
                f"{row['estimator']}_gain",
                row["mean"],
                row["sd"],
                row["lowest"],
                row["highest"],
                f"{row['capped']:.0%}",
                row["median_step_change"],
                row["median_probe_step_change"],
                row["lipschitz"],
            ]
            for row in shown["multipliers"]
        ],
        caption="ρ that each signal would have given on the same SDPO run. Δρ between consecutive "
        "steps: on the batches it is mostly their noise, on the probe the weights' doing. Δθ: "
        "Euclidean.",
    )
    page.table(
        ["seed", "estimator", "mean I", "error, rows independent", "error by question",
         "design effect"],
        [
            [
                row["seed"],
                f"{row['estimator']}_gain",
                row["information"],
                row["standard_error"],
                row["standard_error_by_question"],
                row["design_effect"],
            ]
            for row in shown["errors"]
        ],
        caption="Standard error of I_k within a step, root mean square over the run; 8 questions "
        "of 8 responses. The design effect says how many rows stand for one independent pair.",
        digits=4,
    )  # fmt: skip


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else None
        flat |= {prefix + name: value} if inner is None else inner
    return flat
