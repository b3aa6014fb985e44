"""The small-mass limit of the viscous particle: measured, printed and stored."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jax

from sde.viscous import Fluid, measure_mass_limit
from sde.weak_order._plots import Canvas, plot_mass_limit
from sde.weak_order._tables import slope_text


def measure_viscous(
    fluid: Fluid,
    folder: Path,
    *,
    masses: Sequence[float],
    paths: int,
    seed: int,
    canvas: Canvas | None,
) -> None:
    """Fills `folder`, and prints what came of each test function."""
    report = measure_mass_limit(fluid, masses=masses, paths=paths, key=jax.random.key(seed))
    summary = {}
    for name, finding in report.converges.items():
        print(
            f"{name}: {finding.verdict} in the mass, slope {slope_text(finding.slope)} "
            f"({finding.reason}); against the paper's form: {report.paper[name].verdict} "
            f"({report.paper[name].reason}). Exact limits: {report.limits[name]:.5f} with the "
            f"noise-induced drift, {report.without[name]:.5f} without"
        )
        summary[name] = {
            "masses": report.masses.tolist(),
            "values": report.values[name].tolist(),
            "standard_errors": report.standard_errors[name].tolist(),
            "limit_with_noise_induced_drift": report.limits[name],
            "limit_without": report.without[name],
            "converges": dataclasses.asdict(finding),
            "paper": dataclasses.asdict(report.paper[name]),
        }
    (folder / "results.json").write_text(json.dumps(summary, indent=1))
    if canvas is not None:
        plot_mass_limit(report, canvas)
