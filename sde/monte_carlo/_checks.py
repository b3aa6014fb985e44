"""Checks before a simulation, and the drift that Stratonovich solvers need."""

import functools as ft
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError
from sde._equations import Coefficients
from sde._indices import check_indices
from sde._psd import check_noise
from sde.exact._observables import Observable
from sde.monte_carlo._solvers import check_solver, is_additive, is_euler, solver_name

_PATH = 16
# The columns of a wider sigma are gone through by one loop.
_UNROLLED = 16


def ito_to_stratonovich(
    coefficients: Coefficients,
) -> Callable[[Float[Array, " m"]], Float[Array, " m"]]:
    r"""The drift a Stratonovich solver needs for the same process.

    $b - \frac12\sum_j (D\sigma_j)\sigma_j$ over the columns of sigma, by autodiff.
    """
    root = coefficients.diffusion

    def corrected(x: Float[Array, " m"]) -> Float[Array, " m"]:
        sigma = root(x)

        def along(j: Any) -> Float[Array, " m"]:
            return jax.jvp(lambda z: root(z)[:, j], (x,), (sigma[:, j],))[1]

        columns = sigma.shape[1]
        if columns <= _UNROLLED:
            return coefficients.drift(x) - 0.5 * sum(along(j) for j in range(columns))
        bent, _ = jax.lax.scan(
            lambda total, j: (total + along(j), None), jnp.zeros_like(x), jnp.arange(columns)
        )
        return coefficients.drift(x) - 0.5 * bent

    return corrected


def check_scheme(solver: Any, substeps: Any, richardson: bool) -> None:
    """Refuses a scheme that does not exist.

    Raises:
        TypeError, ValueError: the solver cannot integrate a drift with noise; see `check_solver`.
            Or substeps are not a whole number >= 1. Or Richardson is used with a solver other than
            Euler. The others read more of the path than its increments, or their leading error is
            not linear.
    """
    check_solver(solver)
    if isinstance(substeps, bool) or not isinstance(substeps, int) or substeps < 1:
        raise PGPOValueError(f"substeps must be a whole number >= 1, got {substeps!r}")
    if richardson and not is_euler(solver):
        raise PGPOValueError(f"richardson extrapolates Euler; got solver={solver_name(solver)}")


def extrapolates(richardson: bool | None, solver: diffrax.AbstractSolver) -> bool:
    """Whether to extrapolate; `None` asks for it where it can be had, with Euler.

    >>> extrapolates(None, diffrax.Euler()), extrapolates(None, diffrax.Heun())
    (True, False)
    """
    return is_euler(solver) if richardson is None else richardson


def check_observables(observables: Sequence[Observable], dim: int) -> None:
    """Refuses an observable that does not give one number.

    Raises:
        ValueError: naming it and what it gives.
    """
    with jax.enable_x64(True):
        theta = jnp.zeros((dim,))
    for g in observables:
        try:
            with jax.enable_x64(True):
                shape = jax.eval_shape(g.function, theta).shape
        except (TypeError, ValueError, AttributeError) as error:
            raise PGPOValueError(
                f"observable {g.name!r} must take theta of shape {(dim,)} and give one number; it "
                f"fails with {type(error).__name__}: {error}"
            ) from error
        if shape != ():
            raise PGPOValueError(
                f"observable {g.name!r} must give one number per theta, got the shape {shape}"
            )
        check_indices(g.function, f"observable {g.name!r}", theta)


def check_coefficients(
    build: Callable[[Any], Coefficients],
    eta: float,
    solver: diffrax.AbstractSolver,
    horizon: float,
    what: str,
) -> None:
    """Check what the noise is made of near the noise-free path, before any simulation.

    Raises:
        ValueError: it is no covariance matrix and no finite deviations there, or it depends on the
            state although the solver takes additive noise only.
    """
    matrices = np.asarray(_probe(build, float(eta), horizon / _PATH))
    check_noise(matrices, build(eta).factored, what)
    varies = np.max(np.abs(matrices - matrices[0])) > 1e-12 * np.max(np.abs(matrices))
    if varies and is_additive(solver):
        raise PGPOValueError(
            f"solver {solver_name(solver)} takes only noise that does not depend on the state, and "
            f"the diffusion of {what} does; use diffrax.Euler(), or another solver for any noise, "
            "such as diffrax.GeneralShARK()"
        )


@ft.partial(jax.jit, static_argnums=0)
def _probe(
    build: Callable[[Any], Coefficients], eta: Float[Array, ""], step: Float[Array, ""]
) -> Float[Array, "probes q m"]:
    """What the noise is made of along the noise-free path and around it, by one program."""
    coefficients = build(eta)
    x0 = jnp.asarray(coefficients.x0)

    def advance(x: Float[Array, " m"], _: None) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        return x + step * coefficients.drift(x), x

    _, path = jax.lax.scan(advance, x0, None, length=_PATH + 1)
    around = np.random.default_rng(0).uniform(-0.3, 0.3, (4, *path.shape))
    probes = jnp.concatenate([path[None], path + around]).reshape(-1, len(x0))
    return jax.vmap(coefficients.noise)(probes)
