"""Expectations by Monte Carlo: streamed over chunks, extrapolated over substeps, with controls."""

import functools as ft
import math
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike

from sde._chains import Chain
from sde._equations import Equation, as_eta
from sde._lookup import as_chain, as_problem, count_steps
from sde.exact._observables import Observable, as_observable
from sde.monte_carlo._brownian import Normals
from sde.monte_carlo._chain import chain_program
from sde.monte_carlo._checks import check_observables, extrapolates
from sde.monte_carlo._control_variate import Estimate, Moments, products
from sde.monte_carlo._ensemble import CHUNK, check_paths, even_chunks, fitting, over_chunks
from sde.monte_carlo._equation import equation_program
from sde.monte_carlo._simulate import numbers_of_noise, prepare
from sde.problems import Problem

_EULER = diffrax.Euler()

Observables = Sequence[str | Callable[..., Any] | Observable]
"""Names in `sde.exact.OBSERVABLES`, functions of theta, or `Observable`s.

Added in version 0.2.0.
"""


def estimate_chain(
    problem: str | Problem,
    chain: str | Chain,
    observables: Observables,
    *,
    eta: ScalarLike,
    horizon: float = 1.0,
    paths: int,
    key: PRNGKeyArray,
    batch_size: int = 1,
    replace: bool = True,
    control_variate: bool = True,
    chunk: int = CHUNK,
    progress: Callable[[str], None] | None = None,
) -> Estimate:
    """Monte Carlo expectations of observables of a chain, with standard errors.

    The other arguments are those of `run_chain`.

    Args:
        observables: names, or functions of theta.
        paths: how many are simulated; rounded up to whole chunks.
        control_variate: subtract the linearised fluctuation (and its square), whose expectation is
            known.
        chunk: paths that are simulated at a time: memory is that of one chunk.
        progress: told how long a run of many chunks will take; for instance `print`.

    >>> e = estimate_chain("quadratic", "sgd", ["mean"], eta=1 / 8, paths=1000,
    ...                    key=jax.random.key(0))
    >>> bool(abs(e.values[0] - 0.366724) < 3 * e.standard_errors[0]), bool(e.gain[0] > 100)
    (True, True)
    """
    check_paths(paths, chunk)
    problem, chain = as_problem(problem), as_chain(chain)
    functions = tuple(as_observable(g) for g in observables)
    eta = as_eta(eta)
    steps = count_steps(eta, horizon)
    with jax.enable_x64(True):
        check_observables(functions, problem.dim)
        chain.check(problem, eta)
        size = even_chunks(paths, fitting(chunk, problem.num_examples * problem.dim))
        program = moment_sums(
            chain_program(problem, chain, batch_size, replace, size, control_variate),
            functions,
            dim=problem.dim,
        )
        args = (float(eta), steps)
        label = f"chain, eta={eta:g}"
        return estimate_in_chunks(program, functions, key, paths, size, args, label, progress)


def estimate_equation(
    problem: str | Problem,
    equation: str | Equation,
    observables: Observables,
    *,
    chain: str | Chain,
    eta: ScalarLike,
    horizon: float = 1.0,
    paths: int,
    key: PRNGKeyArray,
    substeps: int = 4,
    richardson: bool | None = None,
    solver: diffrax.AbstractSolver = _EULER,
    batch_size: int = 1,
    replace: bool = True,
    control_variate: bool = True,
    chunk: int = CHUNK,
    progress: Callable[[str], None] | None = None,
    normals: Normals = "float64",
) -> Estimate:
    r"""Monte Carlo expectations of observables of an equation, with standard errors.

    With `richardson`, the estimate is of $2 E g(X^{2m}) - E g(X^{m})$ for m substeps, both driven
    by the same Brownian path: the leading weak error of Euler cancels. Controls are extrapolated
    alike.

    The other arguments are those of `simulate`.

    Args:
        observables: names, or functions of theta.
        paths: how many are simulated; rounded up to whole chunks.
        richardson: extrapolate over `substeps` and twice that; `None`: where the solver is Euler.

    Raises:
        TypeError, ValueError: as `simulate`; and Richardson with a solver other than Euler.
    """
    check_paths(paths, chunk)
    functions = tuple(as_observable(g) for g in observables)
    richardson = extrapolates(richardson, solver)
    with jax.enable_x64(True):
        build, steps = prepare(
            problem,
            equation,
            chain,
            eta=eta,
            horizon=horizon,
            batch_size=batch_size,
            replace=replace,
            solver=solver,
            substeps=substeps,
            richardson=richardson,
            normals=normals,
        )
        finite_sum = as_problem(problem)
        check_observables(functions, finite_sum.dim)
        size = even_chunks(paths, fitting(chunk, numbers_of_noise(build, eta)))
        how: dict[str, Any] = {"paths": size, "solver": solver, "normals": normals}
        how["control"] = control_variate
        how["observed"] = as_chain(chain).observed(finite_sum)
        coarse = equation_program(build, stride=2, **how) if richardson else None
        fine = equation_program(build, **how)
        program = moment_sums(fine, functions, coarse, dim=finite_sum.dim)
        finest = 2 * substeps if richardson else substeps
        args = (as_eta(eta), eta / finest, steps * finest)
        label = f"equation, eta={eta:g}"
        return estimate_in_chunks(program, functions, key, paths, size, args, label, progress)


@ft.lru_cache(maxsize=64)
def moment_sums(
    run: Callable[..., tuple[Array, Array]],
    functions: tuple[Observable, ...],
    coarse: Callable[..., tuple[Array, Array]] | None = None,
    *,
    dim: int | None = None,
) -> Callable[..., Array]:
    """The `products` of a run's observables and controls; extrapolated, where there is `coarse`.

    Args:
        run: (key, ...) -> states [paths, m] and controls [paths, q].
        functions: the observables.
        coarse: the same paths in steps twice as long.
        dim: how many coordinates, from the first, the observables see; `None`: all.

    Added in version 0.2.0.
    """

    def sums(key: PRNGKeyArray, *args: Array) -> Float[Array, "q q"]:
        states, control = run(key, *args)
        values = _values(functions, states[:, :dim])
        if coarse is not None:
            states, coarse_control = coarse(key, *args)
            values = 2 * values - _values(functions, states[:, :dim])
            control = 2 * control - coarse_control
        return products(values, control)

    return sums


def _values(
    observables: Sequence[Observable], states: Float[Array, "paths m"]
) -> Float[Array, "paths g"]:
    return jnp.stack([jax.vmap(g.function)(states) for g in observables], axis=1)


def estimate_in_chunks(
    program: Callable[..., Array],
    observables: Sequence[Observable],
    key: PRNGKeyArray,
    paths: int,
    chunk: int,
    args: tuple[Any, ...],
    label: str,
    tell: Callable[[str], None] | None = None,
) -> Estimate:
    """Runs a program of `moment_sums` chunk by chunk, and estimates the observables from the sums.

    Args:
        program: (key, *args) -> the sums of one chunk.
        observables: those of the program.
        key: the key of the whole ensemble.
        paths: how many, rounded up to whole chunks.
        chunk: paths per chunk, which is the size that the program was made for.
        args: numbers that the program takes, traced.
        label: what is simulated, on the progress bar and in messages.
        tell: told how long it will take.

    Added in version 0.2.0.
    """
    moments = Moments(len(observables))
    chunks = math.ceil(paths / chunk)
    for part in over_chunks(program, key, chunks, *args, label=label, tell=tell):
        moments.add(part)
    return moments.estimate(label)
