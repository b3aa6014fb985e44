import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgpo_jax._json_files import number, read_object, read_steps
from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.paths import local_path
from pgpo_jax.reports._interval import Interval, mean_interval

# Runs measure in float32. A chart of larger numbers would overflow.
_LARGEST = 3.5e38


@dataclass(frozen=True)
class RunRecord:
    """The contents of a run folder, as plain values.

    Attributes:
        name: name in legends and tables.
        folder: path of the run folder.
        config: configuration, nested as in `config.json`.
        steps: one row of metrics per step.
        evaluations: one row per evaluation.
        scores: share of right answers by question, by step.
        timings: one row per step, in seconds.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    scores: dict[int, dict[str, float | int]]
    timings: list[dict[str, Any]]

    def series(self, metric: str, rows: str = "steps") -> tuple[list[int], list[float]]:
        """Steps and values of one metric; values that are not finite in float32 are NaN.

        A metric that the run does not have gives empty lists.
        """
        kept = [row for row in getattr(self, rows) if metric in row]
        return [row["step"] for row in kept], [_measured(row[metric]) for row in kept]

    def mean(self, metric: str) -> float | None:
        """Mean over the steps, or `None` without a finite value."""
        finite = [value for value in self.series(metric)[1] if math.isfinite(value)]
        return math.fsum(finite) / len(finite) if finite else None

    def seconds_per_step(self) -> float | None:
        """Median time of a step, so that steps with a compilation do not count."""
        values = sorted(v for v in self.series("time/step", "timings")[1] if math.isfinite(v))
        if not values:
            return None
        middle = len(values) // 2
        return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2

    def accuracies(self) -> list[tuple[int, Interval]]:
        """Step and held-out accuracy of each evaluation."""
        found = []
        for row in self.evaluations:
            step, scores = row["step"], self.scores.get(row["step"])
            if scores:
                found.append((step, mean_interval(list(scores.values()))))
                continue
            mean, error = number(row["eval/accuracy"]), number(row.get("eval/standard_error"))
            half = 1.96 * error
            found.append((step, Interval(mean, max(0.0, mean - half), min(1.0, mean + half))))
        return found

    def flat_config(self) -> dict[str, Any]:
        """The configuration by dotted names."""
        return dict(_leaves(self.config))


def read_run(folder: str | Path, name: str | None = None) -> RunRecord:
    """Reads a run folder, finished or not.

    Raises:
        FileNotFoundError: if there is no run in it.
        ValueError: naming the file, if it is not what a run writes.
    """
    folder = local_path(folder, "a run folder")
    for file in ("config.json", "metrics.jsonl"):
        if not (folder / file).is_file():
            raise PGPOFileNotFoundError(f"there is no run in {folder}: {file} is missing")
    config = read_object(folder / "config.json")
    metrics = read_steps(folder / "metrics.jsonl")
    return RunRecord(
        name=name or folder.name,
        folder=folder,
        config=config,
        steps=[row for row in metrics if "eval/accuracy" not in row],
        evaluations=[row for row in metrics if "eval/accuracy" in row],
        scores={row["step"]: row["scores"] for row in _evaluations(folder / "evaluations.jsonl")},
        timings=read_steps(folder / "timings.jsonl"),
    )


def _measured(value: Any) -> float:
    measured = number(value)
    return measured if abs(measured) <= _LARGEST else math.nan


def _evaluations(path: Path) -> list[dict[str, Any]]:
    rows = read_steps(path)
    for row in rows:
        scores = row.get("scores")
        if not isinstance(scores, dict) or not all(
            math.isfinite(number(score)) for score in scores.values()
        ):
            raise PGPOValueError(f"{path}, step {row['step']} must have scores by question")
    return rows


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
