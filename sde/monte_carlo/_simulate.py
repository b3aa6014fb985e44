"""Samples of the equations (by diffrax) and of the chains."""

import functools as ft
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray, ScalarLike

from pgpo_jax.errors import PGPOValueError
from sde._chains import Chain
from sde._equations import Coefficients, Equation, as_eta
from sde._lookup import as_chain, as_equation, as_problem, count_steps
from sde._minibatches import check_batch
from sde._setting import Setting
from sde.monte_carlo._brownian import Normals, check_normals
from sde.monte_carlo._chain import chain_program
from sde.monte_carlo._checks import check_coefficients, check_scheme
from sde.monte_carlo._ensemble import CHUNK, check_paths, even_chunks, fitting, gather
from sde.monte_carlo._equation import Backend, equation_program
from sde.monte_carlo._solvers import is_euler, solver_name
from sde.problems import Problem

_EULER = diffrax.Euler()


@ft.lru_cache(maxsize=128)
def coefficients_of(
    problem: Problem, equation: Equation, chain: Chain, batch_size: int, replace: bool
) -> Callable[[Any], Coefficients]:
    """eta (possibly traced) to the coefficients, without checks; the same object per argument."""
    with jax.enable_x64(True):
        x0 = tuple(float(x) for x in equation.start(problem, chain))

    def build(eta: Any) -> Coefficients:
        setting = Setting(problem, eta, batch_size, replace)
        return Coefficients(
            lambda x: equation.drift(chain, setting, x),
            lambda x: equation.diffusion(chain, setting, x),
            x0,
            equation.deviations(chain, setting),
        )

    return build


def prepare(
    problem: str | Problem,
    equation: str | Equation,
    chain: str | Chain,
    *,
    eta: ScalarLike,
    horizon: float,
    batch_size: int,
    replace: bool,
    solver: diffrax.AbstractSolver,
    substeps: int = 1,
    richardson: bool = False,
    normals: Normals = "float64",
) -> tuple[Callable[[Any], Coefficients], int]:
    """Check everything before a simulation; return the coefficients and K = horizon/eta."""
    problem, equation, chain = as_problem(problem), as_equation(equation), as_chain(chain)
    eta = as_eta(eta)
    steps = count_steps(eta, horizon)
    check_scheme(solver, substeps, richardson)
    check_normals(normals)
    check_batch(problem.num_examples, batch_size, replace)
    equation.check(problem, chain)
    build = coefficients_of(problem, equation, chain, batch_size, replace)
    check_coefficients(
        build, eta, solver, horizon, f"{equation.name!r} on {type(problem).__name__}"
    )
    return build, steps


def numbers_of_noise(build: Callable[[Any], Coefficients], eta: Any) -> int:
    """The number of entries of a path's sigma."""
    coefficients = build(eta)
    return jax.eval_shape(coefficients.diffusion, jnp.asarray(coefficients.x0)).size


def simulate(
    problem: str | Problem,
    equation: str | Equation,
    *,
    chain: str | Chain,
    eta: ScalarLike,
    horizon: float = 1.0,
    paths: int,
    key: PRNGKeyArray,
    substeps: int = 1,
    solver: diffrax.AbstractSolver = _EULER,
    batch_size: int = 1,
    replace: bool = True,
    backend: Backend = "diffrax",
    chunk: int = CHUNK,
    normals: Normals = "float64",
) -> Float[np.ndarray, "paths d"]:
    r"""Samples of an equation's solution at the horizon.

    One `diffeqsolve` per chunk of paths (the ensemble is the state), chunks spread over the
    devices, in float64. The numbers depend on the key, paths and chunk, not on the devices.

    **Euler with one substep is SGD with Gaussian noise.** At dt = eta its weak error against the
    chain measures the scheme, not the equation, so such samples verify nothing. Use `substeps` and
    extrapolate over it, as `sde.estimate_equation` does.

    The solver is any of diffrax's that declares how it reads the noise. `diffrax.Euler()` is for
    Itô equations. Others converge to the Stratonovich equation, so they get the drift
    $b - \frac12\sum_j(D\sigma_j)\sigma_j$, by autodiff. `EulerHeun`, `Heun`, `Midpoint`, `Ralston`,
    `ReversibleHeun` and `StratonovichMilstein` have weak order 1. `SPaRK`, `GeneralShARK` and
    `SlowRK` have a higher order for commutative noise. Minibatch noise in d >= 2 is in general not
    commutative. `SRA1`, `ShARK` and `SEA` take only noise that does not depend on the state. They
    are refused otherwise.

    Args:
        problem: a problem or its name.
        equation: an equation or its name.
        chain: the chain that the equation is meant to track (decides b and S).
        eta: step size of the chain; it must divide the horizon.
        horizon: final time, in units of 1/eta chain steps.
        paths: how many samples.
        key: a PRNG key.
        substeps: solver steps per chain step, dt = eta/substeps.
        solver: see above; an instance, such as `diffrax.Heun()`.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.
        backend: "diffrax", or "scan": the same Euler steps on the same increments.
        chunk: paths simulated at a time; fewer where their noise would take more than 2 GiB.
        normals: "float64" or "float32", in which increments are drawn; see `monte_carlo.Normals`.

    Returns:
        theta at the horizon, shape [paths, d], NumPy float64 (without the memory J of "augmented").

    Raises:
        ValueError: a name is unknown, also that of `normals`. Or eta does not divide the horizon,
            or paths or substeps are below 1. Or the diffusion matrix is not positive semi-definite.
            Or the solver cannot take the noise, or does not declare how it reads it. Raised before
            any simulation.
        TypeError: a solver that is none of diffrax.
        FloatingPointError: a path did not stay finite.

    >>> x = simulate("quadratic", "eq7", chain="sgd", eta=1 / 8, paths=1000, substeps=4,
    ...              key=jax.random.key(0))
    >>> x.shape, x.dtype
    ((1000, 1), dtype('float64'))
    """
    check_paths(paths, chunk)
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
            normals=normals,
        )
        if backend not in ("diffrax", "scan") or (backend == "scan" and not is_euler(solver)):
            raise PGPOValueError(
                f"backend must be 'diffrax', or 'scan' with the Euler solver; got {backend!r} "
                f"with {solver_name(solver)}"
            )
        total = steps * substeps
        size = even_chunks(paths, fitting(chunk, numbers_of_noise(build, eta)))
        scan_steps = total if backend == "scan" else None
        program = equation_program(
            build, paths=size, solver=solver, scan_steps=scan_steps, normals=normals
        )
        return gather(
            program,
            key,
            paths,
            size,
            as_problem(problem).dim,
            as_eta(eta),
            eta / substeps,
            total,
            label=f"equation, eta={eta:g}",
        )


def run_chain(
    problem: str | Problem,
    chain: str | Chain,
    *,
    eta: ScalarLike,
    horizon: float = 1.0,
    paths: int,
    key: PRNGKeyArray,
    batch_size: int = 1,
    replace: bool = True,
    chunk: int = CHUNK,
) -> Float[np.ndarray, "paths d"]:
    """Samples of a chain's parameters after horizon/eta steps: the algorithm, run many times.

    Args:
        problem: a problem or its name.
        chain: a chain or its name.
        eta: step size; it must divide the horizon.
        horizon: eta times the number of steps.
        paths: how many independent runs.
        key: a PRNG key.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.
        chunk: runs simulated at a time.

    Returns:
        theta after the last step, shape [paths, d], NumPy float64.

    Raises:
        ValueError: an unknown name, an eta that does not divide the horizon, paths not >= 1.

    >>> run_chain("torus", "pgpo_minibatch", eta=1 / 4, paths=5, key=jax.random.key(0)).shape
    (5, 2)
    """
    check_paths(paths, chunk)
    problem, chain = as_problem(problem), as_chain(chain)
    eta = as_eta(eta)
    steps = count_steps(eta, horizon)
    with jax.enable_x64(True):
        chain.check(problem, eta)
        size = even_chunks(paths, fitting(chunk, problem.num_examples * problem.dim))
        program = chain_program(problem, chain, batch_size, replace, size, False)
        d, label = problem.dim, f"chain, eta={eta:g}"
        return gather(program, key, paths, size, d, float(eta), steps, label=label)
