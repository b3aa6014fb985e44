"""The folder with the results of the command."""

import dataclasses
import datetime
import json
from pathlib import Path

from pgpo_jax.errors import PGPOValueError
from sde.weak_order._config import Config
from sde.weak_order._latex import latex_tables
from sde.weak_order._measure import Row
from sde.weak_order._plots import Canvas, plot_statement, plot_variance
from sde.weak_order._provenance import provenance, versions
from sde.weak_order._tables import observable_cells, step_size_table, table


def create_run_folder(config: Config) -> Path:
    """Create the run folder and write the configuration into it, before anything is measured.

    Raises:
        ValueError: it holds results.
        OSError: it cannot be written.
    """
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = config.output / (config.run or stamp)
    if (folder / "results.json").exists():
        raise PGPOValueError(f"{folder} holds results already: give another --run")
    folder.mkdir(parents=True, exist_ok=True)
    csv = None if config.csv is None else str(config.csv)
    settings = dataclasses.asdict(config) | {"output": str(config.output), "csv": csv}
    settings["versions"] = versions()
    (folder / "config.json").write_text(json.dumps(settings, indent=1))
    return folder


def discard_run_folder(folder: Path) -> None:
    """Remove the configuration, and then the folder if it is empty."""
    (folder / "config.json").unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def write_results(rows: list[Row], config: Config, folder: Path, seconds: float) -> None:
    """Write the results, tables, plots and a README for a referee into the run folder."""
    results = [
        {
            "statement": row.statement.id,
            "claim": row.statement.claim,
            "expected": row.expected,
            "verdict": row.verdict,
            "seconds": row.seconds,
            "largest_z": row.largest_z,
            "reports": {name: json.loads(r.to_json()) for name, r in row.reports.items()},
        }
        for row in rows
    ]
    (folder / "results.json").write_text(json.dumps(results, indent=1))
    canvas = canvas_of(config, folder)
    if canvas is not None:
        for row in rows:
            plot_statement(row.statement.id, row.reports, canvas)
        plot_variance({row.statement.id: row.reports for row in rows}, canvas)
    tables = latex_tables(rows, provenance(config))
    (folder / "table.tex").write_text(tables, encoding="utf-8")
    (folder / "README.md").write_text(_readme(rows, config, seconds), encoding="utf-8")


def canvas_of(config: Config, folder: Path) -> Canvas | None:
    """Where the figures of a run go; `None` where none are drawn."""
    if not config.plots:
        return None
    return Canvas(folder, config.figures, provenance(config))


def _readme(rows: list[Row], config: Config, seconds: float) -> str:
    lines = [
        "# Weak orders, measured",
        "",
        f"Method: {config.method}; {len(rows)} statements in {seconds:.0f} s; "
        f"{provenance(config)}. An equation is of "
        "weak order a for a chain when |E g(X at k eta) - E g(theta_k)| <= C eta^a, k <= T/eta.",
        "",
        "The slope is that of log2|error| on log2(eta) with its 95% Student half width, problem by "
        "problem, for the test function that decides (exact errors have no noise: there the half "
        "width says how far they are from a line). One rule gives every verdict "
        "(`sde.order.classify_order`): order 0 needs a limit c0 five standard errors from zero "
        "that agrees with the difference of two ODE solutions (the floor); orders 1 and 2 need the "
        "interval of the slope, or of the slope beside a term linear in eta (curved), inside "
        "q [0.8, 1.25], c0 equivalent to zero and no floor. Order 1 does not see the "
        "diffusion; Var/eta, in the last column, does.",
        "",
        "| statement | claim | expected | slope | verdict | floor / c0 | Var/eta ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        floors, ratios = [], []
        for name, report in row.reports.items():
            floor = report.floors[report.decisive]
            known = "no floor" if floor is None else f"{floor:.5f}"
            floors.append(f"{name}: {known} / {report.c0:.5f}")
            ratios.append(f"{report.variance_ratio:.4f}")
        lines.append(
            f"| {row.statement.id} | {row.statement.claim} | {row.expected} | {row.slope} | "
            f"**{row.verdict}** | {'; '.join(floors)} | {', '.join(ratios)} |"
        )
    if any(row.agreement for row in rows):
        lines += ["", "Largest |z| of a rung against the exact engine:", ""]
        lines += [
            f"* {row.statement.id}, {name}: {z:.2f}"
            for row in rows
            for name, z in row.largest_z.items()
        ]
    undecided = [
        f"* {row.statement.id}, {name}: {report.reason}"
        for row in rows
        for name, report in row.reports.items()
        if report.verdict == "undecided"
    ]
    if undecided:
        lines += ["", "Undecided, and why:", "", *undecided]
    for row in rows:
        lines += ["", f"## {row.statement.id}", "", *detail_tables(row)]
    # A browser shows no PDF in the place of a picture.
    kind = next((kind for kind in ("png", "svg") if kind in config.figures), None)
    if config.plots and kind is not None:
        lines += ["", *(f"![{row.statement.id}]({row.statement.id}.{kind})" for row in rows)]
        lines += ["", f"![Var/eta](variance.{kind})"]
    return "\n".join(lines) + "\n"


def detail_tables(row: Row) -> list[str]:
    """Every test function of a row, and every rung where it was measured by Monte Carlo."""
    lines = table(*observable_cells(row.reports))
    if any(report.gains is not None for report in row.reports.values()):
        lines += ["", *step_size_table(row.reports, row.agreement)]
    return lines
