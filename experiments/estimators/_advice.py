"""From the rows of the joint models to "use this estimator and at least this batch"."""

import math
from collections import defaultdict
from typing import Any

from experiments.estimators._moments import SIGNALS

Row = dict[str, Any]

BIAS_LIMIT = 0.1
"""Largest |bias| of an admissible estimator, as a share of the information."""
ERROR_LIMIT = 0.25
"""Largest standard error of an estimate from one batch, as a share of the information."""


def advise(moments: list[Row]) -> dict[str, Any]:
    """Applies the rule of `experiments.estimators` to its table.

    Args:
        moments: rows of `study_batches`, at any batch sizes.

    Returns:
        `estimators` has for each estimator its worst relative bias, the pairs that its worst cell
        needs and that cell, the batch (the next power of two), and whether it is admissible.
        `recommended` is the admissible one with the smallest need, or None. `batch` is its batch.
    """
    rows = defaultdict(list)
    for row in moments:
        rows[row["estimator"]].append(row)
    found = []
    for name in SIGNALS:
        bias = max(abs(row["bias"]) / row["information"] for row in rows[name])
        worst = max(rows[name], key=_needed)
        needed = _needed(worst)
        found.append(
            {
                "estimator": name,
                "worst_relative_bias": bias,
                "pairs_needed": math.ceil(needed),
                "worst_cell": {k: worst[k] for k in ("family", "vocabulary", "aim")},
                "batch": 2 ** math.ceil(math.log2(max(needed, 1.0))),
                "admissible": bias <= BIAS_LIMIT,
            }
        )
    admissible = [row for row in found if row["admissible"]]
    best = min(admissible, key=lambda row: row["pairs_needed"], default=None)
    return {
        "estimators": found,
        "recommended": best and best["estimator"],
        "batch": best and best["batch"],
    }


def _needed(row: Row) -> float:
    """Independent pairs for a standard error of `ERROR_LIMIT` times the information."""
    variance = row["batch"] * row["standard_error"] ** 2
    return variance / (ERROR_LIMIT * row["information"]) ** 2
