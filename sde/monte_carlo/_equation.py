"""Ensembles of an equation, alone or with the linearised fluctuation beside it."""

import functools as ft
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from sde._equations import Coefficients
from sde.monte_carlo._checks import ito_to_stratonovich
from sde.monte_carlo._control_variate import (
    MOST_COORDINATES,
    Expansion,
    controls,
    second_order_term,
)
from sde.monte_carlo._solve import SOLVERS, SummedBrownianPath, brownian_path, scan, solve

Backend = Literal["diffrax", "scan"]


@ft.lru_cache(maxsize=64)
def equation_program(
    build: Callable[[Float[Array, ""]], Coefficients],
    *,
    stride: int = 1,
    paths: int,
    solver: str = "euler",
    scan_steps: int | None = None,
    control: bool = False,
    observed: int | None = None,
) -> Callable[..., tuple[Array, Array]]:
    """A function (key, eta, h, steps) -> final states [paths, m] and their controls [paths, q].

    There, eta is the step size in the coefficients, h the length of a unit of time and `steps` how
    many units to integrate over; all may be traced.

    Args:
        build: eta to the (Itô) coefficients.
        stride: 1, or 2 to step twice as far on the very same Brownian path.
        paths: how many.
        solver: a key of `SOLVERS`.
        scan_steps: None for diffrax; for the plain `lax.scan` (Euler only), the number of steps,
            which it must know beforehand.
        control: whether to carry the control variates.
        observed: of how many coordinates, from the first, they are made; `None`: of all.

    >>> from sde import Coefficients
    >>> ou = Coefficients(lambda x: -x, lambda x: jnp.array([[0.04]]), (1.0,))
    >>> program = jax.jit(equation_program(lambda eta: ou, paths=1000))
    >>> x, _ = program(jax.random.key(0), 0.1, 0.1, 10)
    >>> x.shape, bool(abs(x.mean() - 0.9**10) < 0.02)
    ((1000, 1), True)

    Added in version 0.2.0.
    """
    stratonovich = SOLVERS[solver].stratonovich

    def run(
        key: PRNGKeyArray,
        eta: Float[Array, ""],
        h: Float[Array, ""],
        steps: Int[Array, ""],
    ) -> tuple[Array, Array]:
        coefficients = build(eta)
        ito_drift, root = coefficients.drift, coefficients.diffusion
        drift = ito_to_stratonovich(coefficients) if stratonovich else ito_drift
        scale = jnp.sqrt(h)
        m = coefficients.dim
        follow = control and m <= MOST_COORDINATES

        def operator(y: Float[Array, "paths m"]) -> lx.AbstractLinearOperator:
            sigma = scale * jax.vmap(root)(y)
            if m == 1:
                return lx.DiagonalLinearOperator(sigma[:, :, 0])
            # Not a ShapeDtypeStruct: the structure must name the mesh the ensemble lives on.
            shape = jax.eval_shape(lambda: y)
            return lx.FunctionLinearOperator(lambda dw: jnp.einsum("nij,nj->ni", sigma, dw), shape)

        def field(y: Float[Array, "paths m"]) -> Float[Array, "paths m"]:
            return h * jax.vmap(drift)(y)

        def operator_with_control(y: dict[str, Any]) -> lx.AbstractLinearOperator:
            kick, at_centre = operator(y["x"]), scale * root(y["centre"])
            slope = scale * jax.jacfwd(root)(y["centre"])
            still = jax.tree.map(jnp.zeros_like, y)

            def kicked(dw: Float[Array, "paths m"]) -> dict[str, Any]:
                quadratic = jnp.einsum("ijk,pk,pj->pi", slope, y["known"].linear, dw)
                known = still["known"]._replace(linear=dw @ at_centre.T, quadratic=quadratic)
                return still | {"x": kick.mv(dw), "known": known}

            return lx.FunctionLinearOperator(kicked, jax.eval_shape(lambda: y["x"]))

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
        fine = brownian_path(paths, m, key, solver)
        brownian = fine if stride == 1 else SummedBrownianPath(fine=fine)
        y0: PyTree[Array] = ensemble
        fields: Any = (field, operator)
        if follow:
            fields = (field_with_control, operator_with_control)
            y0 = {"x": ensemble, "centre": x0, "known": Expansion.start(paths, m)}
        if scan_steps is None:
            out = solve(fields[0], fields[1], y0, brownian, steps, stride, solver)
        else:
            out = scan(fields[0], fields[1], y0, brownian, scan_steps, stride)
        if not follow:
            return out, jnp.zeros((paths, 0))
        # The moments are those of Euler's iterates; the mean of l is zero for any solver.
        known = out["known"]
        return out["x"], controls(known, observed) if solver == "euler" else known.linear

    return run
