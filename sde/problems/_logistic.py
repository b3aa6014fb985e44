"""P3: one-dimensional ridge logistic regression; the signal is the model's own entropy."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sde.problems._base import Problem


def bernoulli_entropy(logit: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Entropy of a Bernoulli variable in nats, from its logit.

    >>> round(float(bernoulli_entropy(jnp.array(0.0))), 4)
    0.6931
    """
    return jax.nn.softplus(logit) - logit * jax.nn.sigmoid(logit)


@dataclass(frozen=True, kw_only=True)
class Logistic(Problem):
    r"""$\ell_n = \log(1 + e^{-y_n x_n\theta}) + \frac{\lambda}{2}\theta^2$.

    $i_n = 2(H(p_n) - 0.4)$ with $p_n = \sigma(x_n\theta)$ and $H$ the Bernoulli entropy.

    Args:
        inputs: the x_n.
        labels: the y_n, +1 or -1.
        ridge: lambda.

    >>> Logistic().dim
    1
    """

    inputs: tuple[float, ...] = (1.5, -0.8, 0.6, 2.0, -1.2)
    labels: tuple[float, ...] = (1.0, 1.0, -1.0, 1.0, -1.0)
    ridge: float = 0.1
    theta0: tuple[float, ...] = (-1.0,)

    def losses(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        x, y = (jnp.asarray(v, theta.dtype) for v in (self.inputs, self.labels))
        return jax.nn.softplus(-y * x * theta[0]) + 0.5 * self.ridge * theta[0] ** 2

    def signals(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        return 2.0 * (bernoulli_entropy(jnp.asarray(self.inputs, theta.dtype) * theta[0]) - 0.4)
