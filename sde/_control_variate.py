r"""The linear control variate: what a path would do if all were linear along the noise-free path.

Along the deterministic iterate $\bar x_{k+1} = \bar x_k + \eta b(\bar x_k)$, the chain has
$l_{k+1} = (1 + \eta Db(\bar x_k)) l_k + \eta (h(\bar x_k, \xi_k) - b(\bar x_k))$, driven by
the very batches of the path, and the equation has $dl = Db(\bar x) l\,dt + \sigma(\bar x) dW$
with the path's own increments. $E\,l = 0$ exactly, and $E\,l l^T = C$ follows a deterministic
recursion, so both l and $l l^T - C$ can be subtracted from any observable with the best
coefficients. The variance of an observable falls from $O(\eta)$ to $O(\eta^3)$.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def controls(
    fluctuation: Float[Array, "paths d"], covariance: Float[Array, "d d"] | None
) -> Float[Array, "paths q"]:
    """The mean-zero controls of an ensemble: l and, where its covariance is known, l l^T - C.

    Args:
        fluctuation: l, one row per path.
        covariance: C at the same time, or None for the linear controls alone.
    """
    if covariance is None:
        return fluctuation
    d = fluctuation.shape[1]
    rows, columns = np.triu_indices(d)
    squares = fluctuation[:, rows] * fluctuation[:, columns] - covariance[rows, columns]
    return jnp.concatenate([fluctuation, squares], axis=1)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Expectations with standard errors; `gain` is the factor by which the variance fell."""

    values: Float[np.ndarray, " g"]
    standard_errors: Float[np.ndarray, " g"]
    gain: Float[np.ndarray, " g"]
    paths: int


class Moments:
    """Sums of products over chunks, from which regression on the controls needs nothing else."""

    def __init__(self, observables: int):
        self._observables = observables
        self._sums: Float[np.ndarray, "q q"] | None = None

    def add(self, products: Float[np.ndarray, "q q"]) -> None:
        """Adds `Z^T Z` of a chunk whose columns are 1, the observables, the controls."""
        products = np.asarray(products, dtype=float)
        self._sums = products if self._sums is None else self._sums + products

    def estimate(self) -> Estimate:
        """Means of the observables, regressed on the controls, whose means are known to be 0."""
        if self._sums is None:
            raise ValueError("no chunk was added, so there is nothing to estimate")
        if not np.all(np.isfinite(self._sums)):
            raise FloatingPointError(
                "the simulation left the domain of its coefficients (a path is not finite): the "
                "diffusion matrix lost positive semi-definiteness, or the step is too large"
            )
        n = self._sums[0, 0]
        means = self._sums[0, 1:] / n
        covariance = self._sums[1:, 1:] / n - np.outer(means, means)
        g = self._observables
        raw = np.diag(covariance)[:g]
        across, among = covariance[:g, g:], covariance[g:, g:]
        # Equilibrated: l and l l^T differ by orders of magnitude.
        scale = np.sqrt(np.maximum(np.diag(among), np.finfo(float).tiny))
        beta = (
            (across / scale) @ np.linalg.pinv(among / np.outer(scale, scale), rcond=1e-12) / scale
        )
        values = means[:g] - beta @ means[g:]
        variance = np.maximum(raw - np.sum(beta * across, axis=1), 0.0)
        floor = np.finfo(float).eps * np.maximum(raw, np.finfo(float).tiny)
        return Estimate(values, np.sqrt(variance / n), raw / np.maximum(variance, floor), round(n))


def products(
    observables: Float[Array, "paths g"], *control: Float[Array, "paths q"]
) -> Float[Array, "m m"]:
    """`Z^T Z` for the columns 1, the observables, the controls."""
    ones = jnp.ones((observables.shape[0], 1), observables.dtype)
    z = jnp.concatenate([ones, observables, *control], axis=1)
    return z.T @ z
