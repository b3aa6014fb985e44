"""P2: a one-dimensional double well with cubic gradients."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from sde.problems._base import Problem


@dataclass(frozen=True, kw_only=True)
class DoubleWell(Problem):
    r"""$g_n = \theta^3 - \theta + s_n + r_n\theta$, $i_n = \tanh(e_n\theta + d_n)$.

    Args:
        shifts: the s_n.
        slopes: the r_n.
        signal_slopes: the e_n.
        signal_shifts: the d_n.

    >>> import jax.numpy as jnp
    >>> DoubleWell().gradients(jnp.array([1.0])).shape
    (4, 1)
    """

    shifts: tuple[float, ...] = (-0.6, 0.4, 0.5, -0.3)
    slopes: tuple[float, ...] = (0.3, -0.4, 0.2, -0.1)
    signal_slopes: tuple[float, ...] = (0.9, 0.4, -0.7, 0.2)
    signal_shifts: tuple[float, ...] = (0.8, -0.3, 0.2, -0.5)
    theta0: tuple[float, ...] = (0.35,)

    def losses(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        s, r = (jnp.asarray(v, theta.dtype) for v in (self.shifts, self.slopes))
        x = theta[0]
        return x**4 / 4 - x**2 / 2 + s * x + r * x**2 / 2

    def signals(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        e, d = (jnp.asarray(v, theta.dtype) for v in (self.signal_slopes, self.signal_shifts))
        return jnp.tanh(e * theta[0] + d)
