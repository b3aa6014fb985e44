"""Ensembles of an equation, alone or together with the linearised fluctuation."""

import functools as ft
from collections.abc import Callable
from typing import Any, Literal, cast

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from sde._equations import Coefficients
from sde.monte_carlo._brownian import Normals, SummedBrownianPath, brownian_path
from sde.monte_carlo._checks import ito_to_stratonovich
from sde.monte_carlo._control_variate import (
    MOST_COORDINATES,
    Expansion,
    controls,
    second_order_term,
)
from sde.monte_carlo._solve import scan, solve
from sde.monte_carlo._solvers import (
    has_odd_increments,
    is_additive,
    is_euler,
    is_stratonovich,
)

Backend = Literal["diffrax", "scan"]
_EULER = diffrax.Euler()


@ft.lru_cache(maxsize=64)
def equation_program(
    build: Callable[[Float[Array, ""]], Coefficients],
    *,
    stride: int = 1,
    paths: int,
    solver: diffrax.AbstractSolver = _EULER,
    scan_steps: int | None = None,
    control: bool = False,
    observed: int | None = None,
    normals: Normals = "float64",
) -> Callable[..., tuple[Array, Array]]:
    """A function (key, eta, h, steps) -> final states [paths, m] and their controls [paths, q].

    In it eta is the step size in the coefficients, h the length of a unit of time, and `steps` the
    number of units to integrate over. All may be traced.

    Args:
        build: eta to the (Itô) coefficients.
        stride: 1, or 2 to step twice as far on the very same Brownian path.
        paths: how many.
        solver: one that `check_solver` takes.
        scan_steps: None for diffrax; for the plain `lax.scan` (Euler only), the number of steps,
            which it must know beforehand.
        control: whether to carry the control variates.
        observed: of how many coordinates, from the first, they are made; `None`: of all.
        normals: what the increments are drawn in.

    >>> from sde import Coefficients
    >>> ou = Coefficients(lambda x: -x, lambda x: jnp.array([[0.04]]), (1.0,))
    >>> program = jax.jit(equation_program(lambda eta: ou, paths=1000))
    >>> x, _ = program(jax.random.key(0), 0.1, 0.1, 10)
    >>> x.shape, bool(abs(x.mean() - 0.9**10) < 0.02)
    ((1000, 1), True)

    Added in version 0.2.0.
    """

    def run(
        key: PRNGKeyArray,
        eta: Float[Array, ""],
        h: Float[Array, ""],
        steps: Int[Array, ""],
    ) -> tuple[Array, Array]:
        coefficients = build(eta)
        ito_drift, root = coefficients.drift, coefficients.diffusion
        drift = ito_drift
        if is_additive(solver):
            # Such a solver asks for a noise that is not even a function of the state.
            root = _constant(root(jnp.asarray(coefficients.x0)))
        elif is_stratonovich(solver):
            drift = ito_to_stratonovich(coefficients)
        scale = jnp.sqrt(h)
        m = coefficients.dim
        follow = control and m <= MOST_COORDINATES and has_odd_increments(solver)

        def noise(y: Float[Array, "paths m"]) -> Float[Array, "paths m q"]:
            return scale * jax.vmap(root)(y)

        def field(y: Float[Array, "paths m"]) -> Float[Array, "paths m"]:
            return h * jax.vmap(drift)(y)

        def noise_with_control(y: dict[str, Any]) -> dict[str, Any]:
            matrices = {"x": noise(y["x"]), "linear": scale * root(y["centre"])}
            if not is_additive(solver):
                slope = scale * jax.jacfwd(root)(y["centre"])
                bent = jnp.einsum("ijk,pk->pij", slope, y["known"].linear)
                matrices["quadratic"] = bent
            return matrices

        def kick_with_control(matrices: dict[str, Any], dw: Float[Array, "paths q"]) -> Any:
            moved = Expansion.start(paths, m)._replace(linear=dw @ matrices["linear"].T)
            if "quadratic" in matrices:
                moved = moved._replace(quadratic=_kick(matrices["quadratic"], dw))
            return {"x": _kick(matrices["x"], dw), "centre": jnp.zeros(m), "known": moved}

        def field_with_control(y: dict[str, Any]) -> dict[str, Any]:
            centre, known = y["centre"], y["known"]
            jacobian = h * jax.jacfwd(ito_drift)(centre)
            curvature = h * jax.jacfwd(jax.jacfwd(ito_drift))(centre)
            moved = jacobian @ known.covariance
            return {
                "x": field(y["x"]),
                "centre": h * ito_drift(centre),
                "known": Expansion(
                    known.linear @ jacobian.T,
                    known.quadratic @ jacobian.T + second_order_term(curvature, known.linear),
                    # With this derivative an Euler step gives the covariance of the Euler iterate.
                    moved
                    + moved.T
                    + stride * moved @ jacobian.T
                    + h * coefficients.diffusion_matrix(centre),
                    jacobian @ known.mean
                    + 0.5 * jnp.einsum("ijk,jk->i", curvature, known.covariance),
                    # Increments have no third moment, so these stay zero.
                    jnp.zeros_like(known.third),
                    jnp.zeros_like(known.mixed),
                ),
            }

        x0 = jnp.asarray(coefficients.x0)
        ensemble = jnp.broadcast_to(x0, (paths, m))
        q = jax.eval_shape(root, x0).shape[1]
        fine = brownian_path(paths, q, key, solver, normals)
        brownian = fine if stride == 1 else SummedBrownianPath(fine=fine)
        y0: PyTree[Array] = ensemble
        drift_of, noise_of, kick = cast(Any, (field, noise, _kick))
        if follow:
            drift_of, noise_of, kick = field_with_control, noise_with_control, kick_with_control
            y0 = {"x": ensemble, "centre": x0, "known": Expansion.start(paths, m)}
        if scan_steps is None:
            out = solve(drift_of, noise_of, kick, y0, brownian, steps, stride, solver)
        else:
            out = scan(drift_of, noise_of, kick, y0, brownian, scan_steps, stride)
        if not follow:
            return out, jnp.zeros((paths, 0))
        # The moments are those of Euler's iterates; the mean of l is zero for any solver.
        known = out["known"]
        return out["x"], controls(known, observed) if is_euler(solver) else known.linear

    return run


def _kick(
    matrices: Float[Array, "paths m q"], dw: Float[Array, "paths q"]
) -> Float[Array, "paths m"]:
    return jnp.einsum("nij,nj->ni", matrices, dw)


def _constant(value: Array) -> Callable[[Array], Array]:
    return lambda _: value
