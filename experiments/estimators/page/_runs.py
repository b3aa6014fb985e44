"""The report on short runs: every signal on the same batches."""

from collections.abc import Mapping
from typing import Any

from experiments.estimators._summary import by_estimator
from pgpo_jax.reports import Curve, Page

Row = Mapping[str, Any]


def runs_section(page: Page, shown: Row, every: Row) -> None:
    """The signals along short runs, and the rho that each would have given."""
    page.heading("Along a run")
    rows = [r for r in every["multipliers"] if r["reduction"] == "sequence_mean"]
    alpha = min(row["alpha"] for row in rows)
    rows = [row for row in rows if row["alpha"] == alpha]
    seed = rows[0]["seed"]
    first = by_estimator([row for row in rows if row["seed"] == seed])
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
