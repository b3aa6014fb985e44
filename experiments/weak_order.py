"""The table of statements, measured: `python -m experiments.weak_order --all`.

Prints statement | expected | slope ± CI | verdict | seconds, for a single statement also every test
function, and writes results/weak_order/<run>/{config.json,results.json,README.md,*.png}.
"""

import dataclasses
import datetime
import json
import math
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

import sde
from experiments._weak_order_kink import measure_kink
from experiments._weak_order_plots import plot_statement, plot_variance
from experiments._weak_order_tables import by_observable, by_rung
from experiments._weak_order_viscous import measure_viscous
from pgpo_jax.errors import PGPOValueError
from sde import OrderReport
from sde._statements import STATEMENTS, Statement
from sde.viscous import MASSES, Fluid

# The rows that --all measures by Monte Carlo, against the exact engine.
MONTE_CARLO_ROWS = (
    "thm2ii-minibatch",
    "corrected-minibatch",
    "thm2ii-population",
    "second-order-minibatch",
)
_NOT_OF_VISCOUS = ("method", "batch_size")
_NOT_OF_KINK = (*_NOT_OF_VISCOUS, "problem", "etas", "paths")


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures the weak order of equations against the chains they are said to track.

    Choose `--all`, one `--statement ID`, your own `--problem`, `--chain` and `--equation`,
    `--kink` or `--viscous`.
    """

    all: bool = False
    """Every statement of the table (by Monte Carlo: the four on record)."""
    statement: str | None = None
    """One row of the table, by its id; an id that there is not lists those that there are."""
    kink: bool = False
    """The size of the half order at the cap, predicted and measured, instead of the table."""
    viscous: bool = False
    """The small-mass limit of the paper's viscous particle, instead of the table."""
    problem: str | None = None
    """A problem; with --statement or --all it replaces the problems of the rows."""
    chain: str | None = None
    """A chain, for a row of your own."""
    equation: str | None = None
    """An equation, for a row of your own."""
    method: Literal["exact", "monte_carlo"] = "exact"
    """Exact engines, or simulation."""
    etas: tuple[float, ...] = ()
    """Step sizes (with --viscous: masses), at least 5, coarsest first; by default the row's."""
    paths: int = 1 << 15
    """Monte Carlo paths per rung."""
    seed: int = 0
    """Of the Monte Carlo key."""
    batch_size: int = 1
    """|B|."""
    output: Path = Path("results/weak_order")
    """Where run folders go."""
    run: str | None = None
    """The run folder's name; by default the time. It must not hold results yet."""
    plots: bool = True
    """Whether to draw."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured line of the table; `agreement` is z of each rung against the exact engine, by
    problem and test function (Monte Carlo, where an exact engine covers the problem)."""

    statement: Statement
    expected: str
    reports: dict[str, OrderReport]
    agreement: dict[str, dict[str, np.ndarray]]

    @property
    def verdict(self) -> str:
        """The common verdict of all problems, or all of them where they differ."""
        verdicts = {report.verdict for report in self.reports.values()}
        return verdicts.pop() if len(verdicts) == 1 else " / ".join(sorted(verdicts))

    @property
    def seconds(self) -> float:
        return sum(report.seconds for report in self.reports.values())

    @property
    def largest_z(self) -> dict[str, float]:
        """By problem."""
        return {
            name: max(float(np.max(np.abs(z))) for z in of.values())
            for name, of in self.agreement.items()
        }

    @property
    def slope(self) -> str:
        """Slopes with half widths, problem by problem, of the observable that decides."""
        pairs = [report.slopes[report.decisive] for report in self.reports.values()]
        return ", ".join("none" if math.isnan(p) else f"{p:.2f} ± {w:.2f}" for p, w in pairs)


def statements(config: Config) -> list[Statement]:
    """The rows that a configuration asks for.

    Raises:
        ValueError: nothing or too much is asked for, a name is unknown, or an option would not be
            looked at.
    """
    own = (config.chain, config.equation)
    asked = [config.all, config.statement is not None, any(own), config.kink, config.viscous]
    if sum(asked) != 1:
        raise PGPOValueError(
            "choose one of --all, --statement ID, --kink, --viscous, or --problem with --chain and "
            "--equation"
        )
    if config.kink or config.viscous:
        mode, foreign = ("kink", _NOT_OF_KINK) if config.kink else ("viscous", _NOT_OF_VISCOUS)
        for name in foreign:
            if getattr(config, name) != getattr(Config(), name):
                raise PGPOValueError(f"--{mode} takes no --{name.replace('_', '-')}")
        return []
    if config.all:
        wanted = STATEMENTS if config.method == "exact" else MONTE_CARLO_ROWS
        rows = [STATEMENTS[name] for name in wanted]
    elif config.statement is not None:
        if config.statement not in STATEMENTS:
            raise PGPOValueError(
                f"unknown statement {config.statement!r}; there are {', '.join(STATEMENTS)}"
            )
        rows = [STATEMENTS[config.statement]]
    else:
        if config.problem is None or config.chain is None or config.equation is None:
            raise PGPOValueError("a row of your own needs --problem, --chain and --equation")
        chain, equation = sde.as_chain(config.chain), sde.as_equation(config.equation)
        where = ((config.problem, sde.as_problem(config.problem)),)
        name = f"{config.problem}-{config.chain}-{config.equation}"
        rows = [Statement(name, f"{equation.formula}", chain, equation, "unknown", where)]
    if config.problem is not None:
        where = ((config.problem, sde.as_problem(config.problem)),)
        rows = [dataclasses.replace(row, problems=where) for row in rows]
    elif config.method == "monte_carlo":
        # One problem each: the first of the row.
        rows = [dataclasses.replace(row, problems=row.problems[:1]) for row in rows]
    return rows


def measure(row: Statement, config: Config) -> Row:
    """One row, on all its problems; by Monte Carlo also z against the exact engine."""
    import jax

    reports, agreement = {}, {}
    for name, problem in row.problems:
        etas = config.etas or (row.etas if config.method == "exact" else None)
        common = {"observables": row.observables, "batch_size": config.batch_size}
        report = sde.measure_order(
            problem,
            row.chain,
            row.equation,
            etas=etas,
            method=config.method,
            paths=config.paths,
            key=jax.random.key(config.seed),
            **common,
        )
        reports[name] = report
        if config.method == "monte_carlo":
            z = _z(report, problem, row, config)
            agreement |= {} if z is None else {name: z}
    return Row(row, row.expected, reports, agreement)


def _z(report: OrderReport, problem, row: Statement, config: Config) -> dict | None:
    try:
        exact = sde.weak_errors(
            problem,
            row.chain,
            row.equation,
            etas=[float(eta) for eta in report.etas],
            observables=row.observables,
            batch_size=config.batch_size,
        )
    except ValueError:
        # No exact engine covers it, which is what Monte Carlo is for.
        return None
    return {
        name: (report.errors[name] - exact.terminal[:, j]) / report.standard_errors[name]
        for j, name in enumerate(exact.observables)
    }


def print_header() -> None:
    print(f"{'statement':46} {'expected':10} {'slope':34} {'verdict':10} seconds")


def print_row(row: Row) -> None:
    mark = " " if row.verdict == row.expected or row.expected == "unknown" else "!"
    line = (
        f"{row.statement.id:46} {row.expected:10} {row.slope:34} {row.verdict:10}"
        f"{row.seconds:7.1f} {mark}"
    )
    if row.agreement:
        line += f"  largest |z| against exact {max(row.largest_z.values()):.2f}"
    print(line, flush=True)


def _details(row: Row) -> list[str]:
    """Every test function of a row, and every rung where it was measured by Monte Carlo."""
    lines = by_observable(row.reports)
    if any(report.gains is not None for report in row.reports.values()):
        lines += ["", *by_rung(row.reports, row.agreement)]
    return lines


def claim(config: Config) -> Path:
    """The run folder, with the configuration in it: before the work, which would else be lost.

    Raises:
        ValueError: it holds results.
        OSError: it cannot be written.
    """
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = config.output / (config.run or stamp)
    if (folder / "results.json").exists():
        raise PGPOValueError(f"{folder} holds results already: give another --run")
    folder.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.asdict(config) | {"output": str(config.output)}
    (folder / "config.json").write_text(json.dumps(settings, indent=1))
    return folder


def _release(folder: Path) -> None:
    """Undoes `claim` where nothing came of it."""
    (folder / "config.json").unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def write(rows: list[Row], config: Config, folder: Path, seconds: float) -> None:
    """Fills the run folder: results, plots and a README for a referee."""
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
    if config.plots:
        for row in rows:
            plot_statement(row.statement.id, row.reports, folder / f"{row.statement.id}.png")
        plot_variance({row.statement.id: row.reports for row in rows}, folder / "variance.png")
    (folder / "README.md").write_text(_readme(rows, config, seconds), encoding="utf-8")


def _readme(rows: list[Row], config: Config, seconds: float) -> str:
    lines = [
        "# Weak orders, measured",
        "",
        f"Method: {config.method}; {len(rows)} statements in {seconds:.0f} s. An equation is of "
        "weak order a for a chain when |E g(X at k eta) - E g(theta_k)| <= C eta^a, k <= T/eta.",
        "",
        "The slope is that of log2|error| on log2(eta) with its 95% Student half width, problem by "
        "problem, for the test function that decides (exact errors have no noise: there the half "
        "width says how far they are from a line). One rule gives every verdict "
        "(`sde._order_verdict.judge`): order 0 needs a limit c0 five standard errors from zero "
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
        lines += ["", f"## {row.statement.id}", "", *_details(row)]
    if config.plots:
        lines += ["", *(f"![{row.statement.id}]({row.statement.id}.png)" for row in rows)]
        lines += ["", "![Var/eta](variance.png)"]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Runs what the command line asks for.

    Returns:
        0 when every verdict is the expected one, 1 otherwise, 2 for a request that is refused.
    """
    config = tyro.cli(
        Config, args=argv, prog="python -m experiments.weak_order", description=__doc__
    )
    try:
        wanted = statements(config)
        folder = claim(config)
    except (ValueError, OSError) as refused:
        return _refuse(refused)
    start, rows = time.perf_counter(), []
    try:
        if config.kink:
            measure_kink(folder)
        elif config.viscous:
            fluid = Fluid(sde.as_problem(config.problem or "student_teacher"), "gradient", 0.25)
            measure_viscous(
                fluid,
                folder,
                masses=config.etas or MASSES,
                paths=config.paths,
                seed=config.seed,
                plots=config.plots,
            )
        else:
            print_header()
        for statement in wanted:
            rows.append(measure(statement, config))
            print_row(rows[-1])
    except ValueError as refused:
        _release(folder)
        return _refuse(refused)
    seconds = time.perf_counter() - start
    if rows:
        write(rows, config, folder, seconds)
    if len(rows) == 1:
        print("", *_details(rows[0]), "", sep="\n")
    what = f"{len(rows)} statements in {seconds:.0f} s" if rows else f"{seconds:.0f} s"
    print(f"{what}; written to {folder}")
    surprises = [r for r in rows if r.expected != "unknown" and r.verdict != r.expected]
    return 1 if surprises else 0


def _refuse(refused: Exception) -> int:
    print(f"error: {refused}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
