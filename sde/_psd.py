"""Square roots of covariance matrices, and checks of such matrices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError

_RELATIVE_SLACK = 1e-10


def _safe_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sqrt of max(x, 0) whose derivative at zero is zero rather than infinite."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def psd_root(matrix: Float[Array, "m m"]) -> Float[Array, "m m"]:
    r"""The symmetric positive semi-definite square root of a covariance matrix.

    Closed forms for m = 1 and m = 2, $A^{1/2} = (A + \sqrt{\det A}\,1)/\sqrt{tr A + 2\sqrt{\det
    A}}$; an eigendecomposition for larger m. Negative rounding errors are clipped to zero.
    Derivatives of any order are finite for equal eigenvalues. At zero eigenvalues they are set to
    zero.

    Args:
        matrix: symmetric `[m, m]`.

    Returns:
        The root `[m, m]`.

    >>> import jax.numpy as jnp
    >>> psd_root(jnp.asarray([[5.0, 4.0], [4.0, 5.0]])).tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    size = matrix.shape[0]
    if size == 1:
        return _safe_sqrt(matrix)
    if size == 2:
        det_root = _safe_sqrt(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])
        scale = _safe_sqrt(matrix[0, 0] + matrix[1, 1] + 2.0 * det_root)
        safe = jnp.where(scale > 0, scale, 1.0)
        root = (matrix + det_root * jnp.eye(2, dtype=matrix.dtype)) / safe
        return jnp.where(scale > 0, root, jnp.zeros_like(root))
    return _root(matrix)


@jax.custom_jvp
def _root(matrix: Float[Array, "m m"]) -> Float[Array, "m m"]:
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * _safe_sqrt(values)) @ vectors.T


@_root.defjvp
def _root_jvp(primals: Any, tangents: Any) -> Any:
    # R R = A, so R dR + dR R = dA. The derivative of eigh divides by differences of eigenvalues,
    # which may be equal. This one divides by sums of roots.
    root = _root(*primals)
    return root, _sylvester(root, *tangents)


@jax.custom_jvp
def _sylvester(root: Float[Array, "m m"], right: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """The X of R X + X R = C, for a symmetric R; 0 where both roots are 0."""
    values, vectors = jnp.linalg.eigh(root)
    sums = values[:, None] + values[None, :]
    least = jnp.max(jnp.abs(values)) * jnp.sqrt(jnp.finfo(root.dtype).eps)
    inside = sums > least
    rotated = vectors.T @ right @ vectors
    solved = jnp.where(inside, rotated / jnp.where(inside, sums, 1.0), 0.0)
    return vectors @ solved @ vectors.T


@_sylvester.defjvp
def _sylvester_jvp(primals: Any, tangents: Any) -> Any:
    (root, _), (droot, dright) = primals, tangents
    found = _sylvester(*primals)
    return found, _sylvester(root, dright - droot @ found - found @ droot)


def check_psd(matrices: Float[np.ndarray, "*batch m m"], what: str) -> None:
    """Refuse covariance matrices that are not finite, symmetric and positive semi-definite.

    Raises:
        ValueError: a matrix is none of these. The message names the smallest eigenvalue.
    """
    matrices = np.asarray(matrices)
    if not np.all(np.isfinite(matrices)):
        raise PGPOValueError(f"the diffusion matrix of {what} must be finite, got {matrices!r}")
    size = float(np.max(np.abs(matrices), initial=0.0))
    if np.max(np.abs(matrices - np.swapaxes(matrices, -1, -2)), initial=0.0) > 1e-8 * size:
        raise PGPOValueError(f"the diffusion matrix of {what} must be symmetric")
    smallest = float(np.min(np.linalg.eigvalsh(matrices), initial=np.inf))
    if smallest < -_RELATIVE_SLACK * max(size, 1e-300):
        raise PGPOValueError(
            f"the diffusion matrix of {what} must be positive semi-definite, got the eigenvalue "
            f"{smallest:.3g} (largest entry {size:.3g})"
        )


def check_noise(matrices: Float[np.ndarray, "*batch q m"], factored: bool, what: str) -> None:
    """Refuse what noise cannot be made of.

    Args:
        matrices: deviations D, whose D^T D is the diffusion matrix, or diffusion matrices.
        factored: whether they are deviations, which must only be finite.
        what: whose they are.

    Raises:
        ValueError: see `check_psd`.
    """
    if not factored:
        check_psd(matrices, what)
    elif not np.all(np.isfinite(matrices)):
        raise PGPOValueError(f"the noise of {what} must be finite, got {np.asarray(matrices)!r}")
