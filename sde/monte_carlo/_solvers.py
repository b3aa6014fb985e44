"""What a diffrax solver says of itself: how it reads the noise, and what it needs of the path.

Nothing is listed by name. A solver of one's own is taken if it inherits from
`diffrax.AbstractItoSolver` or `diffrax.AbstractStratonovichSolver`.
"""

from typing import Any, get_args, get_origin

import diffrax

from pgpo_jax.errors import PGPOTypeError, PGPOValueError

# An ensemble is one state to diffrax, and this one forms a matrix of all its noise.
_DENSE = diffrax.ItoMilstein


def innermost(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """The solver itself, without `diffrax.HalfSolver` and the like around it."""
    while isinstance(solver, diffrax.AbstractWrappedSolver):
        solver = solver.solver
    return solver


def solver_name(solver: diffrax.AbstractSolver) -> str:
    """How messages and reports call it.

    >>> solver_name(diffrax.HalfSolver(diffrax.Euler()))
    'HalfSolver(Euler)'
    """
    inner = innermost(solver)
    name = type(solver).__name__
    return name if inner is solver else f"{name}({type(inner).__name__})"


def is_stratonovich(solver: diffrax.AbstractSolver) -> bool:
    """Whether it converges to the Stratonovich reading of the noise, as it declares."""
    return isinstance(solver, diffrax.AbstractStratonovichSolver)


def is_additive(solver: diffrax.AbstractSolver) -> bool:
    """Whether it takes only noise that does not depend on the state, by its tableau."""
    inner = innermost(solver)
    return isinstance(inner, diffrax.AbstractSRK) and inner.tableau.is_additive_noise()


def is_euler(solver: diffrax.AbstractSolver) -> bool:
    """Whether it is Euler's method, whose step of length eta is a step of SGD."""
    return type(solver) is diffrax.Euler


def has_odd_increments(solver: diffrax.AbstractSolver) -> bool:
    """Whether a linear noise keeps a mean of zero, as it does for the solvers of diffrax.

    A solver of one's own may use squares of the increments, whose mean is not zero.
    """
    return type(innermost(solver)).__module__.startswith("diffrax.")


def levy_area(solver: diffrax.AbstractSolver) -> Any:
    """The increments of the Brownian path that it asks for."""
    least = getattr(innermost(solver), "minimal_levy_area", diffrax.AbstractBrownianIncrement)
    if issubclass(least, diffrax.AbstractSpaceTimeTimeLevyArea):
        return diffrax.SpaceTimeTimeLevyArea
    if issubclass(least, diffrax.AbstractSpaceTimeLevyArea):
        return diffrax.SpaceTimeLevyArea
    return diffrax.BrownianIncrement


def check_solver(solver: Any) -> None:
    """Refuse what cannot integrate a drift with noise.

    Raises:
        TypeError: it is no diffrax solver, or cannot be hashed.
        ValueError: it does not declare Itô or Stratonovich, like a solver for ordinary differential
            equations. Or it needs other terms than a drift and a noise, like the Langevin solvers.
            Or it cannot take an ensemble as its state, like `diffrax.ItoMilstein`.

    >>> check_solver(diffrax.ShARK())
    """
    if not isinstance(solver, diffrax.AbstractSolver):
        got = f"the class {solver.__name__}" if isinstance(solver, type) else repr(solver)
        raise PGPOTypeError(f"solver must be a diffrax solver, such as diffrax.Euler(); got {got}")
    name = solver_name(solver)
    try:
        hash(solver)
    except TypeError as error:
        raise PGPOTypeError(
            f"solver must be hashable, for programs are kept by solver; {name} is not ({error}). "
            "Keep numbers and tuples in its fields, and make arrays where they are used"
        ) from error
    declared = (diffrax.AbstractItoSolver, diffrax.AbstractStratonovichSolver)
    if sum(isinstance(solver, kind) for kind in declared) != 1:
        raise PGPOValueError(
            "solver must declare how it reads the noise, as a diffrax.AbstractItoSolver or a "
            f"diffrax.AbstractStratonovichSolver; {name} does not"
        )
    inner = innermost(solver)
    if not _takes_drift_and_noise(inner.term_structure):
        raise PGPOValueError(
            f"solver must take a drift and a noise, diffrax.ODETerm and diffrax.ControlTerm; "
            f"{name} takes {inner.term_structure}"
        )
    if isinstance(inner, _DENSE):
        raise PGPOValueError(
            f"solver must work on an ensemble without a matrix of all its noise; {name} forms one. "
            "Use diffrax.StratonovichMilstein(): the drift is corrected for it"
        )


def _takes_drift_and_noise(structure: Any) -> bool:
    if isinstance(structure, type) and get_origin(structure) is None:
        # One term of any kind: the sum of drift and noise is one.
        return issubclass(diffrax.MultiTerm, structure)
    if get_origin(structure) is not diffrax.MultiTerm:
        return False
    wanted = [get_origin(term) or term for term in get_args(get_args(structure)[0])]
    given = (diffrax.ODETerm, diffrax.ControlTerm)
    return len(wanted) == 2 and all(map(issubclass, given, wanted))
