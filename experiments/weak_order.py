"""The table of statements, measured: `python -m experiments.weak_order --all`.

Prints statement | expected | slope ± CI | verdict | seconds, and writes
results/weak_order/<run>/{config.json,results.json,README.md,*.png}.
"""

import dataclasses
import datetime
import json
import math
import sys
import time
from pathlib import Path
from typing import Literal

import tyro

import sde
from experiments._weak_order_plots import plot_mass_limit, plot_statement, plot_variance
from sde import OrderReport
from sde._statements import STATEMENTS, Statement
from sde.viscous import MASSES, Fluid, measure_mass_limit

# The rows that --all measures by Monte Carlo, against the exact engine.
MONTE_CARLO_ROWS = (
    "thm2ii-minibatch",
    "corrected-minibatch",
    "thm2ii-population",
    "second-order-minibatch",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures the weak order of equations against the chains they are said to track.

    Choose `--all`, one `--statement ID`, or your own `--problem`, `--chain` and `--equation`.
    """

    all: bool = False
    """Every statement of the table (by Monte Carlo: the four on record)."""
    statement: str | None = None
    """One row of the table, by its id."""
    viscous: bool = False
    """The small-mass limit of the paper's viscous particle, instead of the table."""
    problem: str | None = None
    """A problem; with --statement it replaces the row's problems."""
    chain: str | None = None
    """A chain, for a row of your own."""
    equation: str | None = None
    """An equation, for a row of your own."""
    method: Literal["exact", "monte_carlo"] = "exact"
    """Exact engines, or simulation."""
    etas: tuple[float, ...] = ()
    """Step sizes, at least 5, coarsest first; by default the row's."""
    paths: int = 1 << 15
    """Monte Carlo paths per rung."""
    seed: int = 0
    """Of the Monte Carlo key."""
    batch_size: int = 1
    """|B|."""
    output: Path = Path("results/weak_order")
    """Where run folders go."""
    run: str | None = None
    """The run folder's name; by default the time."""
    plots: bool = True
    """Whether to draw."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured line of the table."""

    statement: Statement
    expected: str
    reports: dict[str, OrderReport]
    agreement: dict[str, float]

    @property
    def verdict(self) -> str:
        """The common verdict of all problems, or all of them where they differ."""
        verdicts = {report.verdict for report in self.reports.values()}
        return verdicts.pop() if len(verdicts) == 1 else " / ".join(sorted(verdicts))

    @property
    def seconds(self) -> float:
        return sum(report.seconds for report in self.reports.values())

    @property
    def slope(self) -> str:
        """Slopes with half widths, problem by problem, of the observable that decides."""
        pairs = [report.slopes[report.decisive] for report in self.reports.values()]
        return ", ".join("none" if math.isnan(p) else f"{p:.2f} ± {w:.2f}" for p, w in pairs)


def statements(config: Config) -> list[Statement]:
    """The rows that a configuration asks for.

    Raises:
        ValueError: nothing or too much is asked for, or a name is unknown.
    """
    own = (config.chain, config.equation)
    asked = [config.all, config.statement is not None, any(own), config.viscous]
    if sum(asked) != 1:
        raise ValueError(
            "choose one of --all, --statement ID, --viscous, or --problem with --chain and "
            "--equation"
        )
    if config.viscous:
        return []
    if config.all:
        wanted = STATEMENTS if config.method == "exact" else MONTE_CARLO_ROWS
        rows = [STATEMENTS[name] for name in wanted]
    elif config.statement is not None:
        if config.statement not in STATEMENTS:
            raise ValueError(
                f"unknown statement {config.statement!r}; there are {', '.join(STATEMENTS)}"
            )
        rows = [STATEMENTS[config.statement]]
    else:
        if config.problem is None or config.chain is None or config.equation is None:
            raise ValueError("a row of your own needs --problem, --chain and --equation")
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
    """One row, on all its problems; by Monte Carlo also |z| against the exact engine."""
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
            agreement[name] = _largest_z(report, problem, row, config)
    return Row(row, row.expected, reports, agreement)


def _largest_z(report: OrderReport, problem, row: Statement, config: Config) -> float:
    exact = sde.weak_errors(
        problem,
        row.chain,
        row.equation,
        etas=[float(eta) for eta in report.etas],
        observables=row.observables,
        batch_size=config.batch_size,
    )
    z = [
        abs(report.errors[name][k] - exact.terminal[k, j]) / report.standard_errors[name][k]
        for j, name in enumerate(exact.observables)
        for k in range(len(report.etas))
    ]
    return float(max(z))


def print_header() -> None:
    print(f"{'statement':46} {'expected':10} {'slope':34} {'verdict':10} seconds")


def print_row(row: Row) -> None:
    mark = " " if row.verdict == row.expected or row.expected == "unknown" else "!"
    line = (
        f"{row.statement.id:46} {row.expected:10} {row.slope:34} {row.verdict:10}"
        f"{row.seconds:7.1f} {mark}"
    )
    if row.agreement:
        line += f"  largest |z| against exact {max(row.agreement.values()):.2f}"
    print(line, flush=True)


def _folder(config: Config) -> Path:
    """The run folder, with the configuration in it."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = config.output / (config.run or stamp)
    folder.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.asdict(config) | {"output": str(config.output)}
    (folder / "config.json").write_text(json.dumps(settings, indent=1))
    return folder


def write(rows: list[Row], config: Config, seconds: float) -> Path:
    """The run folder: configuration, results, plots and a README for a referee."""
    folder = _folder(config)
    results = [
        {
            "statement": row.statement.id,
            "claim": row.statement.claim,
            "expected": row.expected,
            "verdict": row.verdict,
            "seconds": row.seconds,
            "largest_z": row.agreement,
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
    return folder


def _readme(rows: list[Row], config: Config, seconds: float) -> str:
    lines = [
        "# Weak orders, measured",
        "",
        f"Method: {config.method}; {len(rows)} statements in {seconds:.0f} s. An equation is of "
        "weak order a for a chain when |E g(X at k eta) - E g(theta_k)| <= C eta^a, k <= T/eta.",
        "",
        "The slope is that of log2|error| on log2(eta) with its 95% Student half width, problem by "
        "problem, for the test function that decides. One rule gives every verdict "
        "(`sde._order_verdict.judge`): order 0 needs a limit c0 five standard errors from zero and "
        "equal to the difference of two ODE solutions (the floor); orders 1 and 2 need the slope "
        "interval inside q [0.8, 1.25] and c0 equivalent to zero. Order 1 does not see the "
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
            for name, z in row.agreement.items()
        ]
    undecided = [
        f"* {row.statement.id}, {name}: {report.reason}"
        for row in rows
        for name, report in row.reports.items()
        if report.verdict == "undecided"
    ]
    if undecided:
        lines += ["", "Undecided, and why:", "", *undecided]
    if config.plots:
        lines += ["", *(f"![{row.statement.id}]({row.statement.id}.png)" for row in rows)]
        lines += ["", "![Var/eta](variance.png)"]
    return "\n".join(lines) + "\n"


def _run_viscous(config: Config) -> int:
    """Measures the small-mass limit, prints it and writes the run folder."""
    import jax

    fluid = Fluid(sde.as_problem(config.problem or "student_teacher"), "gradient", 0.25)
    masses = config.etas or MASSES
    report = measure_mass_limit(
        fluid, masses=masses, paths=config.paths, key=jax.random.key(config.seed)
    )
    summary = {}
    for name, finding in report.converges.items():
        slope = finding.slope
        print(
            f"{name}: {finding.verdict} in the mass, slope "
            + ("none" if slope is None else f"{slope.slope:.2f} ± {slope.half_width:.2f}")
            + f" ({finding.reason}); against the paper's form: {report.paper[name].verdict} "
            f"({report.paper[name].reason})"
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
    folder = _folder(config)
    (folder / "results.json").write_text(json.dumps(summary, indent=1))
    if config.plots:
        plot_mass_limit(report, folder / "viscous.png")
    print(f"{report.seconds:.0f} s; written to {folder}")
    return 0


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
        if config.viscous:
            return _run_viscous(config)
        print_header()
        start, rows = time.perf_counter(), []
        for statement in wanted:
            rows.append(measure(statement, config))
            print_row(rows[-1])
    except ValueError as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 2
    seconds = time.perf_counter() - start
    folder = write(rows, config, seconds)
    print(f"{len(rows)} statements in {seconds:.0f} s; written to {folder}")
    surprises = [r for r in rows if r.expected != "unknown" and r.verdict != r.expected]
    return 1 if surprises else 0


if __name__ == "__main__":
    raise SystemExit(main())
