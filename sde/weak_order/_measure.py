"""Measures the rows of the table of statements."""

import dataclasses
import functools
import math
import sys

import jax
import numpy as np

from sde import Statement
from sde.exact import weak_errors
from sde.order import Comparison, Exact, MonteCarlo, OrderReport
from sde.problems import Problem
from sde.weak_order._config import Config


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured line of the table.

    `agreement` is z of each rung against the exact engine, by problem and test function. It is
    empty for exact measurements and for problems that no exact engine covers.

    Added in version 0.2.0.
    """

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


def measure(row: Statement, config: Config) -> Row:
    """One row, on all its problems; by Monte Carlo also z against the exact engine.

    Added in version 0.2.0.
    """
    reports, agreement = {}, {}
    for name, problem in row.problems:
        etas = config.etas or (row.etas if config.method == row.method else None)
        asked = Comparison(
            problem,
            row.chain,
            row.equation,
            etas=etas,
            observables=row.observables,
            batch_size=config.batch_size,
        )
        method = Exact()
        if config.method == "monte_carlo":
            method = MonteCarlo(
                paths=row.paths if config.paths is None else config.paths,
                key=jax.random.key(config.seed),
                normals=config.normals,
                progress=functools.partial(_tell, f"{row.id}, {name}"),
            )
        reports[name] = report = asked.order(method)
        if config.method == "monte_carlo":
            z = _z(report, problem, row, config)
            agreement |= {} if z is None else {name: z}
    return Row(row, row.expected, reports, agreement)


def _tell(what: str, told: str) -> None:
    print(f"{what}: {told}", file=sys.stderr, flush=True)


def _z(report: OrderReport, problem: Problem, row: Statement, config: Config) -> dict | None:
    try:
        exact = weak_errors(
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
