"""One statement of the laboratory as data: the claim, its test and the expected verdict."""

import dataclasses

from sde._chains import Chain
from sde._equations import EQUATIONS, Equation
from sde._named_chains import CHAINS
from sde.order import ETAS
from sde.problems import PROBLEMS, Problem

ALL = ("mean", "m2", "cos3x")
# The engine of a state of two coordinates, one affine given the other, has moments only.
MOMENTS = ("mean", "m2", "m3")


@dataclasses.dataclass(frozen=True)
class Statement:
    """One row of the table.

    Attributes:
        id: name of the statement on the command line.
        claim: the claim in words.
        chain: the algorithm.
        equation: the equation said to track it.
        expected: expected verdict of the measurement.
        problems: problems of the test; every one must give the verdict.
        etas: step sizes of the exact measurement.
        observables: test functions.
        method: "exact", or "monte_carlo" if no exact engine covers the chain. `etas` are those of
            the method.
        paths: number of paths per step size, for Monte Carlo.

    >>> import sde
    >>> sde.STATEMENTS["sgd-ode"].expected
    'order 1'
    """

    id: str
    claim: str
    chain: Chain
    equation: Equation
    expected: str
    problems: tuple[tuple[str, Problem], ...]
    etas: tuple[float, ...] = ETAS
    observables: tuple[str, ...] = ALL
    method: str = "exact"
    paths: int = 1 << 15


def on(*names: str) -> tuple[tuple[str, Problem], ...]:
    """Problems by name, with their names."""
    return tuple((name, PROBLEMS[name]) for name in names)


def statement(
    id: str,
    claim: str,
    chain: str | Chain,
    equation: str | Equation,
    expected: str,
    *where: str,
    **more,
) -> Statement:
    """A row, of things by name; `problems` in place of `where` are problems that have none."""
    algorithm = CHAINS[chain] if isinstance(chain, str) else chain
    tracked_by = EQUATIONS[equation] if isinstance(equation, str) else equation
    problems = more.pop("problems", None) or on(*where)
    return Statement(id, claim, algorithm, tracked_by, expected, problems, **more)
