"""P1: one-dimensional quadratics; every polynomial moment is closed."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError
from sde.problems._base import Problem


@dataclass(frozen=True, kw_only=True)
class Quadratic(Problem):
    r"""$\ell_n = \frac12 a_n(\theta - c_n)^2$ with signals that do not depend on $\theta$.

    The chain is an affine random recursion, its equation a Pearson diffusion.

    Args:
        curvatures: the a_n.
        centres: the c_n.
        information_values: the i_n, nats.

    Raises:
        ValueError: the three tuples differ in length; or as `Problem`.

    >>> Quadratic().num_examples, Quadratic().dim
    (4, 1)
    """

    curvatures: tuple[float, ...] = (1.0, 2.0, 0.5, 1.5)
    centres: tuple[float, ...] = (0.5, -1.0, 2.0, 0.25)
    information_values: tuple[float, ...] = (1.0, -0.5, 0.25, -1.0)
    theta0: tuple[float, ...] = (1.5,)

    def __post_init__(self):
        super().__post_init__()
        if not len(self.curvatures) == len(self.centres) == len(self.information_values):
            raise PGPOValueError(
                "curvatures, centres and information_values must have one length, got "
                f"{len(self.curvatures)}, {len(self.centres)}, {len(self.information_values)}"
            )

    def losses(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        a, c = (jnp.asarray(v, theta.dtype) for v in (self.curvatures, self.centres))
        return 0.5 * a * (theta[0] - c) ** 2

    def signals(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        return jnp.asarray(self.information_values, theta.dtype)

    @property
    def kinked(self) -> bool:
        # The signal is constant in theta, so even a clipped rho has no kink in theta.
        return False
