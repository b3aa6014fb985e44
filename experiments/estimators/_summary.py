"""The few rows that the report shows and the documentation cites."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from scipy.stats import binomtest

from experiments.estimators._moments import SIGNALS

Row = dict[str, Any]

# Of the drawn sizes, those that tables show.
_SHOWN = (1, 16, 256)


def plain(value: Any, digits: int = 6) -> Any:
    """For JSON: significant digits as stated, NumPy numbers as Python's, NaN as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v, digits) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v, digits) for v in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def middle(values: Iterable[float]) -> float:
    """The middle one of the sorted values, the smaller of two."""
    ordered = sorted(set(values))
    return ordered[(len(ordered) - 1) // 2]


def summarize(results: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of `experiments.estimators.measure` for readers; parts not run are left out."""
    found: dict[str, Any] = {"seconds": results["seconds"]}
    if "discrete" in results:
        found["advice"] = results["advice"]
        found["discrete"] = _discrete(results["discrete"])
    if "language" in results:
        language = dict(results["language"])
        language["variants"] = [
            row
            for row in language["variants"]
            if row["estimator"] != "js" and row["student"] == "model"
        ]
        found["language"] = language
    if "runs" in results:
        series = ("information", "probe_information", "rho")
        found["runs"] = {
            "multipliers": [
                {k: v for k, v in row.items() if k not in series}
                for row in results["runs"]["multipliers"]
                if row["reduction"] != "token_mean"
            ],
            "errors": results["runs"]["errors"],
        }
    return plain(found, digits=4)


def _discrete(results: Mapping[str, list[Row]]) -> dict[str, Any]:
    moments = results["moments"]
    aim = middle(row["aim"] for row in moments)
    largest = max(row["vocabulary"] for row in moments)
    return {
        "information": aim,
        "largest_z": max(abs(row["z"]) for row in moments),
        "z_values": len(moments),
        "moments": [
            {k: v for k, v in row.items() if k not in ("aim", "model", "negative", "repeats")}
            for row in moments
            if row["aim"] == aim and row["model"] == 0 and row["batch"] in _SHOWN
        ],
        "signs": _signs([row for row in moments if row["batch"] in _SHOWN]),
        "ranks": [row for row in results["ranks"] if row["vocabulary"] == largest],
        "variants": _relative(
            results["variants"], largest, ("variant", "setting", "aim", "estimator")
        ),
        "mixtures": _mixtures(results["mixtures"]),
        "multipliers": [
            row
            for row in results["multipliers"]
            if row["vocabulary"] == largest and row["aim"] == aim and row["batch"] in _SHOWN
        ],
        "lengths": [row for row in results["lengths"] if row["aim"] == aim],
    }


def _grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    found = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def by_estimator(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of each estimator, in the order in which they come."""
    return _grouped(rows, lambda row: row["estimator"])


def _signs(moments: list[Row]) -> list[Row]:
    """Share of negative batch estimates over all models, with its 95 % Wilson interval."""
    # Every row stands for as many drawn batches.
    repeats = {row["repeats"] for row in moments}
    (each,) = repeats
    found = []
    groups = _grouped(moments, lambda row: (row["estimator"], row["aim"], row["batch"]))
    for (name, aim, batch), rows in groups.items():
        total = each * len(rows)
        count = round(sum(row["negative"][0] for row in rows) * each)
        ends = binomtest(count, total).proportion_ci(method="wilson")
        found.append(
            {
                "estimator": name,
                "aim": aim,
                "batch": batch,
                "drawn": total,
                "negative": [count / total, ends.low, ends.high],
            }
        )
    return found


def _relative(rows: list[Row], vocabulary: int, names: tuple[str, ...]) -> list[Row]:
    """Relative bias over the families of one vocabulary: the mean, and the range."""
    chosen = [row for row in rows if row["vocabulary"] == vocabulary]
    found = []
    for key, group in _grouped(chosen, lambda row: tuple(row[n] for n in names)).items():
        shares = [row["bias"] / row["information"] for row in group]
        found.append(
            dict(zip(names, key, strict=True))
            | {"relative_bias": [float(np.mean(shares)), min(shares), max(shares)]}
        )
    return found


def _mixtures(rows: list[Row]) -> list[Row]:
    found = []
    for shown, group in _grouped(rows, lambda row: row["shown"]).items():
        shares = np.array([row["mean"] / row["information"] for row in group])
        corrected = shares * shown / (shown - 1)
        found.append(
            {
                "shown": shown,
                "share": [float(shares.mean()), float(shares.min()), float(shares.max())],
                "corrected": [
                    float(corrected.mean()),
                    float(corrected.min()),
                    float(corrected.max()),
                ],
            }
        )
    return found


def label(name: str) -> str:
    """An estimator's name as its function."""
    return SIGNALS.get(name, f"{name}_gain")
