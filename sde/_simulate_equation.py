"""Ensembles of an equation, alone or with the linearised fluctuation beside it."""

import functools as ft
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ._control_variate import controls
from ._equations import Coefficients
from ._simulate_checks import ito_to_stratonovich
from ._simulate_solve import SOLVERS, SummedBrownianPath, brownian_path, scan, solve

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
        control: whether to carry the linear control variate.
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

        def operator(y: Float[Array, "paths m"]) -> lx.AbstractLinearOperator:
            sigma = scale * jax.vmap(root)(y)
            if m == 1:
                return lx.DiagonalLinearOperator(sigma[:, :, 0])
            # Not a ShapeDtypeStruct: the structure must name the mesh the ensemble lives on.
            shape = jax.eval_shape(lambda: y)
            return lx.FunctionLinearOperator(lambda dw: jnp.einsum("nij,nj->ni", sigma, dw), shape)

        def field(y: Float[Array, "paths m"]) -> Float[Array, "paths m"]:
            return h * jax.vmap(drift)(y)

        def operator_with_control(y: dict[str, Array]) -> lx.AbstractLinearOperator:
            kick, at_centre = operator(y["x"]), scale * root(y["centre"])
            still = {name: jnp.zeros_like(y[name]) for name in ("centre", "covariance")}
            return lx.FunctionLinearOperator(
                lambda dw: {"x": kick.mv(dw), "l": dw @ at_centre.T, **still},
                jax.eval_shape(lambda: y["x"]),
            )

        def field_with_control(y: dict[str, Array]) -> dict[str, Array]:
            centre, covariance = y["centre"], y["covariance"]
            jacobian = h * jax.jacfwd(ito_drift)(centre)
            return {
                "x": field(y["x"]),
                "l": y["l"] @ jacobian.T,
                "centre": h * ito_drift(centre),
                # With this derivative an Euler step gives the covariance of the Euler iterate l.
                "covariance": jacobian @ covariance
                + covariance @ jacobian.T
                + stride * jacobian @ covariance @ jacobian.T
                + h * coefficients.diffusion_matrix(centre),
            }

        x0 = jnp.asarray(coefficients.x0)
        ensemble = jnp.broadcast_to(x0, (paths, m))
        fine = brownian_path(paths, m, key, solver)
        brownian = fine if stride == 1 else SummedBrownianPath(fine=fine)
        y0: PyTree[Array] = ensemble
        fields: Any = (field, operator)
        if control:
            fields = (field_with_control, operator_with_control)
            y0 = {
                "x": ensemble,
                "l": jnp.zeros((paths, m)),
                "centre": x0,
                "covariance": jnp.zeros((m, m)),
            }
        if scan_steps is None:
            out = solve(fields[0], fields[1], y0, brownian, steps, stride, solver)
        else:
            out = scan(fields[0], fields[1], y0, brownian, scan_steps, stride)
        if not control:
            return out, jnp.zeros((paths, 0))
        known = out["covariance"] if solver == "euler" else None
        return out["x"], controls(out["l"], known)

    return run
