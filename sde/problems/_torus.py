"""P5: a non-convex problem on the two-dimensional torus, whose PGPO drift is not a gradient."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from sde.problems._base import Problem


@dataclass(frozen=True, kw_only=True)
class Torus(Problem):
    r"""$L = 0.6(-\cos x - 0.7\cos y + 0.4\sin(x+y))$ on $[0, 2\pi)^2$, in four examples.

    $\ell_n = L + s_n\sin x + r_n\cos y + t_n\sin(x - y)$ with $\sum s = \sum r = \sum t = 0$;
    $i_n = e_n\cos x + f_n\sin y + k_n$. Because $\rho$ varies in two dimensions, $D b$ is not
    symmetric: no modified loss exists, and the second-order recipe of SGD fails (docs/theory.md).

    Args:
        sine: the $s_n$.
        cosine: the $r_n$.
        mixed: the $t_n$.
        signal_cosine: the $e_n$.
        signal_sine: the $f_n$.
        signal_shift: the $k_n$.

    >>> Torus().dim, round(Torus().period, 4)
    (2, 6.2832)
    """

    sine: tuple[float, ...] = (0.5, -0.3, 0.2, -0.4)
    cosine: tuple[float, ...] = (-0.2, 0.5, 0.1, -0.4)
    mixed: tuple[float, ...] = (0.15, 0.1, -0.3, 0.05)
    signal_cosine: tuple[float, ...] = (0.6, -0.2, 0.3, 0.5)
    signal_sine: tuple[float, ...] = (0.2, 0.7, 0.5, -0.3)
    signal_shift: tuple[float, ...] = (0.3, -0.2, 0.1, 0.0)
    theta0: tuple[float, ...] = (1.2, -0.9)
    period: float | None = 2.0 * math.pi

    def losses(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        x, y = theta[0], theta[1]
        s, r, t = (jnp.asarray(v, theta.dtype) for v in (self.sine, self.cosine, self.mixed))
        mean = 0.6 * (-jnp.cos(x) - 0.7 * jnp.cos(y) + 0.4 * jnp.sin(x + y))
        return mean + s * jnp.sin(x) + r * jnp.cos(y) + t * jnp.sin(x - y)

    def signals(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        e, f, k = (
            jnp.asarray(v, theta.dtype)
            for v in (self.signal_cosine, self.signal_sine, self.signal_shift)
        )
        return e * jnp.cos(theta[0]) + f * jnp.sin(theta[1]) + k
