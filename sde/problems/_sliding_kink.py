"""P6: a path that slides along the kink of the clipped multiplier."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError
from sde.problems._base import Problem


@dataclass(frozen=True, kw_only=True)
class SlidingKink(Problem):
    r"""$\ell_n = \frac12 a_n x^2 + c_n x + \frac12 y^2 + s_n y$, $I = y + \log(\rho_{max})/\alpha$.

    $y$ starts at its minimum, which lies exactly where $e^{\alpha I} = \rho_{max}$: the path stays
    within $O(\sqrt\eta)$ of the kink, and $E\rho$ feels the diffusion at order $\sqrt\eta$. With
    $\sum s_n = \sum c_n = 0$. Given the path of $y$, $x$ is affine: moments of $x$ need one
    dimension only. The curvature is small and the noise of $y$ large, so that the $\sqrt\eta$ term
    dominates from eta = 1/32 on; c is (nearly) uncorrelated with s.

    Args:
        curvatures: the a_n.
        tilts: the c_n.
        noise: the s_n.

    Raises:
        ValueError: `rho_max` is infinite or `alpha` is 0; or as `Problem`.

    >>> SlidingKink().dim
    2
    """

    curvatures: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2)
    tilts: tuple[float, ...] = (0.178, 0.185, -0.261, -0.102)
    noise: tuple[float, ...] = (2.0, -1.4, 1.0, -1.6)
    rho_max: float = 2.0
    theta0: tuple[float, ...] = (1.0, 0.0)

    def __post_init__(self):
        super().__post_init__()
        if not math.isfinite(self.rho_max) or self.alpha == 0.0:
            raise PGPOValueError(
                "sliding_kink needs the kink: rho_max must be finite and alpha not 0, got "
                f"rho_max={self.rho_max!r}, alpha={self.alpha!r}"
            )

    def losses(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        x, y = theta[0], theta[1]
        a, c, s = (jnp.asarray(v, theta.dtype) for v in (self.curvatures, self.tilts, self.noise))
        return 0.5 * a * x**2 + c * x + 0.5 * y**2 + s * y

    def signals(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        at_kink = math.log(self.rho_max) / self.alpha
        return jnp.full((len(self.noise),), at_kink, theta.dtype) + theta[1]
