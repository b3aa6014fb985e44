"""The flags of the command."""

import dataclasses
from pathlib import Path
from typing import Literal

from pgpo_jax.errors import PGPOValueError
from sde import STATEMENTS, Statement, as_chain, as_equation, as_problem, short_name

# The rows that --all measures by Monte Carlo, too, against the exact engine.
MONTE_CARLO_ROWS = (
    "thm2ii-minibatch",
    "corrected-minibatch",
    "thm2ii-population",
    "second-order-minibatch",
)
_NOT_OF_VISCOUS = ("method", "batch_size", "csv", "normals")
_NOT_OF_KINK = (*_NOT_OF_VISCOUS, "problem", "etas", "paths", "figures")
# What is measured instead of the table, and the options that it does not look at.
_MODES = {"kink": _NOT_OF_KINK, "brake": _NOT_OF_KINK, "viscous": _NOT_OF_VISCOUS}


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures the weak order of equations against the chains they are said to track.

    Choose `--all`, one `--statement ID`, your own `--problem`, `--chain` and `--equation`,
    `--kink`, `--brake` or `--viscous`.

    Added in version 0.2.0.
    """

    all: bool = False
    """Measure every statement of the table. Those with an exact engine use it. The others, and four
    of those, use Monte Carlo."""
    statement: str | None = None
    """One row of the table, by its id. An unknown id lists all ids."""
    kink: bool = False
    """Measure the size of the half order at the cap and compare it with the prediction, instead of
    the table."""
    brake: bool = False
    """Measure how the errors of a large alpha under rho_max = 1 grow with alpha, instead of the
    table."""
    viscous: bool = False
    """Measure the small-mass limit of the paper's viscous particle, instead of the table."""
    problem: str | None = None
    """A problem, or FILE.py:NAME of your own; with --statement or --all it replaces the problems of
    the rows."""
    chain: str | None = None
    """A chain, or FILE.py:NAME, for a row of your own."""
    equation: str | None = None
    """An equation, or FILE.py:NAME, for a row of your own."""
    method: Literal["exact", "monte_carlo"] = "exact"
    """Exact engines, or simulation."""
    etas: tuple[float, ...] = ()
    """Step sizes (with --viscous: masses), at least 5, coarsest first; by default the row's."""
    paths: int | None = None
    """Monte Carlo paths per rung (with --viscous: particles per mass); by default the row's, and
    32768 for a row of your own."""
    seed: int = 0
    """Of the Monte Carlo key."""
    normals: Literal["float64", "float32"] = "float64"
    """With --method monte_carlo, what increments are drawn in. All else is float64."""
    batch_size: int = 1
    """|B|."""
    output: Path = Path("results/weak_order")
    """Where run folders go."""
    run: str | None = None
    """The run folder's name; by default the time. It must not hold results yet."""
    plots: bool = True
    """Whether to draw."""
    figures: tuple[Literal["png", "svg", "pdf"], ...] = ("png",)
    """The formats of the figures; SVG and PDF are for papers."""
    csv: Path | None = None
    """A file for every error that was measured, one a line, with versions and seed."""


def statements(config: Config) -> list[Statement]:
    """The rows that a configuration asks for.

    Raises:
        ValueError: nothing or too much is asked for, a name is unknown, or an option would not be
            looked at.

    >>> [row.id for row in statements(Config(statement="sgd-eq7"))]
    ['sgd-eq7']

    Added in version 0.2.0.
    """
    own = (config.chain, config.equation)
    modes = [mode for mode in _MODES if getattr(config, mode)]
    asked = [config.all, config.statement is not None, any(own), *modes]
    if sum(map(bool, asked)) != 1:
        raise PGPOValueError(
            "choose one of --all, --statement ID, --kink, --brake, --viscous, or --problem with "
            "--chain and --equation"
        )
    if not config.plots and config.figures != Config().figures:
        raise PGPOValueError("--no-plots draws nothing, so it takes no --figures")
    if modes:
        for name in _MODES[modes[0]]:
            if getattr(config, name) != getattr(Config(), name):
                raise PGPOValueError(f"--{modes[0]} takes no --{name.replace('_', '-')}")
        return []
    if config.method == "exact" and config.normals != Config().normals:
        raise PGPOValueError("--normals is of --method monte_carlo; an exact engine draws nothing")
    if config.all:
        exact = config.method == "exact"
        rows = [
            row
            for name, row in STATEMENTS.items()
            if (
                row.method == "exact"
                if exact
                else name in MONTE_CARLO_ROWS or row.method != "exact"
            )
        ]
    elif config.statement is not None:
        if config.statement not in STATEMENTS:
            raise PGPOValueError(
                f"unknown statement {config.statement!r}; there are {', '.join(STATEMENTS)}"
            )
        rows = [STATEMENTS[config.statement]]
        if config.method == "exact" and rows[0].method != "exact":
            raise PGPOValueError(
                f"no exact engine covers {config.statement!r}: give --method monte_carlo"
            )
    else:
        if config.problem is None or config.chain is None or config.equation is None:
            raise PGPOValueError("a row of your own needs --problem, --chain and --equation")
        chain, equation = as_chain(config.chain), as_equation(config.equation)
        where = ((short_name(config.problem), as_problem(config.problem)),)
        names = (config.problem, config.chain, config.equation)
        name = "-".join(short_name(spec) for spec in names)
        rows = [Statement(name, f"{equation.formula}", chain, equation, "unknown", where)]
    if config.problem is not None:
        where = ((short_name(config.problem), as_problem(config.problem)),)
        rows = [dataclasses.replace(row, problems=where) for row in rows]
    elif config.method == "monte_carlo":
        # One problem each: the first of the row.
        rows = [dataclasses.replace(row, problems=row.problems[:1]) for row in rows]
    return rows
