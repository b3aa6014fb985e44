"""Measures the table of statements: `pgpo weak-order --all`, or `python -m sde.weak_order --all`.

Prints statement | expected | slope ± CI | verdict | seconds, for a single statement also every test
function, and writes a folder results/weak_order/<run>: config.json, results.json, README.md,
table.tex and figures. Monte Carlo tells on stderr which step size is done.
"""

import sys
import time
from collections.abc import Sequence

from pgpo_jax.errors import PGPOFloatingPointError, PGPOTypeError
from pgpo_jax.flags import parse
from pgpo_jax.paths import with_local_paths
from sde import as_problem
from sde.viscous import MASSES, Fluid
from sde.weak_order._brake import measure_brake
from sde.weak_order._config import Config, statements
from sde.weak_order._csv import check_csv, write_csv
from sde.weak_order._kink import measure_kink
from sde.weak_order._measure import Row, measure
from sde.weak_order._run_folder import (
    canvas_of,
    create_run_folder,
    detail_tables,
    discard_run_folder,
    write_results,
)
from sde.weak_order._viscous import measure_viscous


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


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m sde.weak_order") -> int:
    """Run the command.

    Args:
        argv: the options; those of the process by default.
        prog: the name of the command in its help.

    Returns:
        0 if every verdict is the expected one, 1 otherwise, 2 for a refused request.

    Added in version 0.2.0.
    """
    given = sys.argv[1:] if argv is None else argv
    try:
        config = parse(Config, prog, given, description=__doc__)
    except ValueError as refused:
        return _refuse(refused)
    try:
        config = with_local_paths(config)
        wanted = statements(config)
        check_csv(config.csv)
        folder = create_run_folder(config)
    except (ValueError, OSError, PGPOTypeError) as refused:
        return _refuse(refused)
    start, rows = time.perf_counter(), []
    try:
        if config.kink:
            measure_kink(folder)
        elif config.brake:
            measure_brake(folder)
        elif config.viscous:
            fluid = Fluid(as_problem(config.problem or "student_teacher"), "gradient", 0.25)
            measure_viscous(
                fluid,
                folder,
                masses=config.etas or MASSES,
                paths=1 << 15 if config.paths is None else config.paths,
                seed=config.seed,
                canvas=canvas_of(config, folder),
            )
        else:
            print_header()
        for statement in wanted:
            rows.append(measure(statement, config))
            print_row(rows[-1])
    except (ValueError, PGPOTypeError, PGPOFloatingPointError) as refused:
        discard_run_folder(folder)
        return _refuse(refused)
    seconds = time.perf_counter() - start
    if rows:
        write_results(rows, config, folder, seconds)
        if config.csv is not None:
            write_csv(rows, config, config.csv)
    if len(rows) == 1:
        print("", *detail_tables(rows[0]), "", sep="\n")
    what = f"{len(rows)} statements in {seconds:.0f} s" if rows else f"{seconds:.0f} s"
    print(f"{what}; written to {folder}")
    surprises = [r for r in rows if r.expected != "unknown" and r.verdict != r.expected]
    return 1 if surprises else 0


def _refuse(refused: Exception) -> int:
    print(f"error: {refused}", file=sys.stderr)
    return 2
