"""Every error of a run as one line of a CSV file, with what it takes to measure it again."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pgpo_jax.errors import PGPOFileExistsError, PGPOFileNotFoundError
from sde.weak_order._config import Config
from sde.weak_order._measure import Row
from sde.weak_order._provenance import versions

# Settings of a simulation, empty where the engine is exact.
_SCHEME = ("solver", "substeps", "richardson", "normals")


def check_csv(path: Path | None) -> None:
    """Refuse a file that is there, or whose folder is not, before anything is measured.

    Raises:
        FileExistsError, FileNotFoundError: naming it.
    """
    if path is None:
        return
    if path.exists():
        raise PGPOFileExistsError(f"--csv must be a new file, and {path} is there")
    if not path.absolute().parent.is_dir():
        raise PGPOFileNotFoundError(f"--csv must be in a folder that exists, got {path}")


def write_csv(rows: Sequence[Row], config: Config, path: Path) -> None:
    """Fills the file. The columns are named as the fields of `results.json`."""
    lines = list(_lines(rows, config))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _lines(rows: Sequence[Row], config: Config) -> Iterator[dict[str, Any]]:
    beside = {"seed": config.seed, "batch_size": config.batch_size, **versions()}
    for row in rows:
        for name, report in row.reports.items():
            for observable, finding in report.findings.items():
                slope, half_width = report.slopes[observable]
                for k, eta in enumerate(report.etas):
                    sup = report.sup_errors
                    yield {
                        "statement": row.statement.id,
                        "problem": name,
                        "chain": report.chain,
                        "equation": report.equation,
                        "method": report.method,
                        "observable": observable,
                        "eta": float(eta),
                        "error": float(report.errors[observable][k]),
                        "standard_error": float(report.standard_errors[observable][k]),
                        "sup_error": "" if sup is None else float(sup[observable][k]),
                        "resolution": float(report.resolutions[observable][k]),
                        "slope": slope,
                        "slope_half_width": half_width,
                        "finding": finding.verdict,
                        "verdict": report.verdict,
                        "expected": row.expected,
                        "paths": report.paths,
                        "horizon": report.settings["horizon"],
                        **{name: report.settings.get(name, "") for name in _SCHEME},
                        **beside,
                    }
