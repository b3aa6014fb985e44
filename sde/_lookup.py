"""Finds objects by name and checks numbers for all entry points."""

import dataclasses
import functools as ft
import math
from collections.abc import Mapping
from typing import TypeVar

import jax
from jaxtyping import ScalarLike

from pgpo_jax._files import is_object_spec, load_object
from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from sde._chains import Chain
from sde._equations import EQUATIONS, Equation, as_eta
from sde._indices import check_indices, of_package
from sde._named_chains import CHAINS
from sde.problems import PROBLEMS, Problem

_T = TypeVar("_T")


def _lookup(kind: str, table: Mapping[str, _T], wanted: str | _T, base: type[_T]) -> _T:
    if isinstance(wanted, base):
        return _hashable(kind, wanted)
    if isinstance(wanted, str) and is_object_spec(wanted):
        return _hashable(kind, _own(kind, wanted, base))
    if not isinstance(wanted, str) or wanted not in table:
        raise PGPOValueError(
            f"unknown {kind} {wanted!r}; there are {', '.join(table)}, or FILE.py:NAME"
            f"{_remedy(wanted, base)}"
        )
    return table[wanted]


def _remedy(wanted: object, base: type) -> str:
    """What to write instead of what is often passed."""
    if isinstance(wanted, type) and issubclass(wanted, base):
        return f". Pass an instance, {wanted.__name__}(), and not the class"
    if base is Chain and hasattr(wanted, "init") and hasattr(wanted, "update"):
        return ". An optax optimizer becomes a chain by sde.optax_chain(optax.sgd)"
    return ""


def _hashable(kind: str, thing: _T) -> _T:
    try:
        hash(thing)
    except TypeError as error:
        for field in dataclasses.fields(thing):  # type: ignore[arg-type]
            value = getattr(thing, field.name)
            try:
                hash(value)
            except TypeError:
                raise PGPOTypeError(
                    f"the fields of a {kind} must be hashable, such as numbers and tuples; "
                    f"{field.name!r} of {type(thing).__name__} is of type {type(value).__name__}. "
                    "Keep a tuple, and make an array where it is used."
                ) from error
        raise PGPOTypeError(
            f"a {kind} must be hashable (a frozen dataclass is): {type(thing).__name__}: {error}"
        ) from error
    return thing


def _own(kind: str, spec: str, base: type[_T]) -> _T:
    thing = load_object(spec)
    if isinstance(thing, type) and issubclass(thing, base):
        try:
            thing = thing()
        except TypeError as error:
            raise PGPOTypeError(
                f"{spec!r} must be a {kind} whose fields all have defaults: {error}"
            ) from error
    if not isinstance(thing, base):
        raise PGPOTypeError(
            f"{spec!r} must be a sde.{base.__name__} or a class of them, got {type(thing).__name__}"
        )
    return thing


def short_name(spec: str) -> str:
    """The name in a table, or NAME of `FILE.py:NAME`.

    >>> short_name("sgd"), short_name("../mine/own.py:Bowl")
    ('sgd', 'Bowl')

    Added in version 0.2.0.
    """
    return spec.rpartition(":")[2] if is_object_spec(spec) else spec


def as_problem(problem: str | Problem) -> Problem:
    """A problem by its name in `PROBLEMS`, `FILE.py:NAME` of your own, or itself.

    >>> as_problem("quadratic").dim
    1
    """
    found = _lookup("problem", PROBLEMS, problem, Problem)
    _check_reads(found)
    return found


@ft.lru_cache(maxsize=1024)
def _check_reads(problem: Problem) -> None:
    # Shapes first: what has another shape is told by its shape.
    if of_package(type(problem)) or problem.num_examples == 0:
        return
    with jax.enable_x64(True):
        start = problem.start
    for what in ("gradients", "signals"):
        function = ft.partial(getattr(type(problem), what), problem)
        check_indices(function, f"{what} of {type(problem).__name__}", start)


def as_chain(chain: str | Chain) -> Chain:
    """A chain by its name in `CHAINS`, `FILE.py:NAME` of your own, or itself.

    >>> type(as_chain("sgd")).__name__
    'SGD'
    """
    return _lookup("chain", CHAINS, chain, Chain)


def as_equation(equation: str | Equation) -> Equation:
    """An equation by its name in `EQUATIONS`, `FILE.py:NAME` of your own, or itself.

    >>> as_equation("corrected").name
    'corrected'
    """
    return _lookup("equation", EQUATIONS, equation, Equation)


def count_steps(eta: ScalarLike, horizon: float) -> int:
    """K = horizon / eta, refusing an eta that does not divide the horizon.

    Raises:
        ValueError: the horizon is not positive, or eta does not divide it.

    >>> count_steps(1 / 8, 1.0)
    8
    """
    eta = as_eta(eta)
    check_horizon(horizon)
    steps = round(horizon / eta)
    if steps < 1 or abs(steps * eta - horizon) > 1e-9 * horizon:
        raise PGPOValueError(f"eta must divide the horizon {horizon!r}, got eta={eta!r}")
    return steps


def check_horizon(horizon: float) -> None:
    """Raises ValueError unless the horizon is a positive number."""
    if not 0.0 < horizon < math.inf:
        raise PGPOValueError(f"horizon must be a positive number, got {horizon!r}")
