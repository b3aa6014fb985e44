"""The report on batches drawn from joint models of known information."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.estimators._advice import ERROR_LIMIT
from experiments.estimators._moments import SIGNALS
from experiments.estimators._summary import label
from pgpo_jax.reports import Curve, Interval, Page

Row = Mapping[str, Any]
_Z = 1.959963984540054


def batches_section(page: Page, shown: Row, every: Row) -> None:
    """Bias, standard error, ranks and signs, by vocabulary and batch."""
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
