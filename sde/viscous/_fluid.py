"""A particle in a fluid whose viscosity depends on the signal: the paper's picture."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError
from sde.problems import Problem

KICKS = ("gradient", "unscaled", "thermal")
"""The choices for the size of the random force on a particle in a `Fluid`."""


@dataclasses.dataclass(frozen=True)
class Fluid:
    r"""A one-dimensional particle of mass m in a fluid of viscosity $\gamma(x) = 1/\rho(I(x))$.

    $$ dx = v\,dt, \qquad m\,dv = -\nabla L(x)\,dt - \gamma(x) v\,dt + s(x)\,dW $$

    The mobility is the paper's multiplier and the force is its gradient. The picture does not
    define the random force, so there are three choices:

    * "gradient": the force is that of the minibatch, $s = \sqrt{\eta} \Sigma^{1/2}$; its limit has
    the
      diffusion $\rho\sqrt\eta\Sigma^{1/2}$, that of the algorithm;
    * "unscaled": $s = \gamma\sqrt{\eta} \Sigma^{1/2}$, so that the limit has the diffusion that
      the paper's Theorem 2(ii) prints;
    * "thermal": the force is that of the fluid, $s = \sqrt{2\gamma T}$ (fluctuation and
    dissipation).

    As m -> 0, x converges to the Itô equation

    $$ dx = \Big(-\rho\nabla L + \tfrac12\rho\rho' s^2\Big)dt + \rho s\,dW. $$

    The second term is the noise-induced drift (Hottovy, McDaniel, Volpe, Wehr, "The
    Smoluchowski-Kramers limit of stochastic differential equations with arbitrary state-dependent
    friction", Comm. Math. Phys. 2015, https://arxiv.org/abs/1404.2330). The paper's equation does
    not have it.

    Args:
        problem: one-dimensional; gives L, I and rho.
        kick: choice of the random force.
        strength: eta for "gradient" and "unscaled", the temperature T for "thermal".

    Raises:
        ValueError: the problem has another dimension, the kick is unknown, or the strength is not >
            0. (diffrax's Langevin terms take diagonal friction and noise, and a minibatch
            covariance is not diagonal.)

    >>> import sde
    >>> fluid = Fluid(sde.PROBLEMS["student_teacher"], "gradient", 0.25)
    >>> round(float(fluid.noise_induced_drift(jnp.asarray(-0.8))), 3)
    0.01
    """

    problem: Problem
    kick: Literal["gradient", "unscaled", "thermal"] = "gradient"
    strength: float = 0.25

    def __post_init__(self):
        if self.problem.dim != 1:
            raise PGPOValueError(
                "a fluid needs a one-dimensional problem (diffrax's Langevin terms take diagonal "
                f"friction and noise), got dimension {self.problem.dim}"
            )
        if self.kick not in KICKS:
            raise PGPOValueError(f"kick must be one of {', '.join(KICKS)}; got {self.kick!r}")
        if not (math.isfinite(self.strength) and self.strength > 0):
            raise PGPOValueError(f"strength must be a finite number > 0, got {self.strength!r}")

    def force(self, x: Float[Array, ""]) -> Float[Array, ""]:
        """-grad L."""
        return -self.problem.gradient(x[None])[0]

    def mobility(self, x: Float[Array, ""]) -> Float[Array, ""]:
        """rho(I(x)), one over the viscosity."""
        return self.problem.multiplier(self.problem.information(x[None]))

    def kick_squared(self, x: Float[Array, ""]) -> Float[Array, ""]:
        """s(x)^2, force squared times time."""
        if self.kick == "thermal":
            return 2 * self.strength / self.mobility(x)
        variance = jnp.var(self.problem.gradients(x[None])[:, 0])
        if self.kick == "gradient":
            return self.strength * variance
        return self.strength * variance / self.mobility(x) ** 2

    def noise_induced_drift(self, x: Float[Array, ""]) -> Float[Array, ""]:
        r"""$\frac12\rho\rho' s^2$, the drift that the small-mass limit adds."""
        rho, slope = jax.value_and_grad(self.mobility)(x)
        return 0.5 * rho * slope * self.kick_squared(x)

    def overdamped_drift(
        self, x: Float[Array, " 1"], *, noise_induced: bool = True
    ) -> Float[Array, " 1"]:
        """The Itô drift of the small-mass limit, or the paper's, which lacks the second term."""
        z = x[0]
        drift = self.mobility(z) * self.force(z)
        if noise_induced:
            drift = drift + self.noise_induced_drift(z)
        return drift[None]

    def overdamped_diffusion(self, x: Float[Array, " 1"]) -> Float[Array, "1 1"]:
        """(rho s)^2, the diffusion matrix of the limit."""
        return (self.mobility(x[0]) ** 2 * self.kick_squared(x[0]))[None, None]
