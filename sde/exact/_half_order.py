"""How much of the error at the cap is proportional to the root of the step size."""

import math

import jax
import numpy as np
import scipy.integrate

from pgpo_jax.errors import PGPOValueError
from sde._equations import Equation
from sde._lookup import as_equation
from sde._named_chains import CHAINS
from sde.problems import SlidingKink


def half_order(problem: SlidingKink, equation: str | Equation, *, horizon: float = 1.0) -> float:
    r"""The coefficient of $\sqrt\eta$ in $E x_T$ of an equation less that of PGPO, predicted.

    Along the kink y is an Ornstein-Uhlenbeck process of rate $\rho_{max}$ whose variance is
    $\eta\sigma^2(1 - e^{-2\rho_{max}t})$, with $2\rho_{max}\sigma^2$ the variance of y per unit of
    time and eta, so that $E\rho = \rho_{max}(1 - \alpha\,\mathrm{sd}(y)/\sqrt{2\pi})$. With
    a the mean curvature of x, the error is

    $$ x_0\,\rho_{max}\,\alpha a\,e^{-\rho_{max}aT}\,
       \frac{\sigma_{eq}-\sigma_{chain}}{\sqrt{2\pi}}\int_0^T\sqrt{1-e^{-2\rho_{max}t}}\,dt. $$

    Args:
        problem: the sliding kink, with a hard cap.
        equation: of the population's drift, $-\rho(I)\nabla L$: "thm2ii", "consistent", "ode", ...
        horizon: T.

    Returns:
        The coefficient, of x per root of eta.

    Raises:
        ValueError: a smooth cap, which leaves no kink.

    >>> from sde.problems import SlidingKink
    >>> round(half_order(SlidingKink(alpha=2.0), "thm2ii"), 4)
    -0.1401
    """
    if problem.softmin is not None:
        raise PGPOValueError(f"the half order needs a hard cap, got softmin={problem.softmin!r}")
    cap, chain = problem.rho_max, CHAINS["pgpo_population"]
    with jax.enable_x64(True):
        own, other = (
            as_equation(name).build(problem, chain, eta=1.0).diffusion_matrix(problem.start)[1, 1]
            for name in ("consistent", equation)
        )
    widths = (math.sqrt(float(other)) - math.sqrt(float(own))) / math.sqrt(2 * cap)
    spread, _ = scipy.integrate.quad(lambda t: math.sqrt(-math.expm1(-2 * cap * t)), 0.0, horizon)
    curvature = float(np.mean(problem.curvatures))
    speed = cap * curvature * problem.alpha * widths * spread / math.sqrt(2 * math.pi)
    return problem.theta0[0] * math.exp(-cap * curvature * horizon) * speed
