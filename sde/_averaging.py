r"""The averaged equation of a fixed running mean of the signal.

With beta fixed, J relaxes within 1/(1-beta) steps, a time of order eta. So theta sees only the
stationary law pi of J at frozen theta. Under pi, $J = \sum_{j\ge0}(1-\beta)\beta^j I_j$ with
independent minibatches. For $\rho = e^{\alpha I}$ only products of $M_\theta(s) = E_B e^{s I_B}$ at
$s_j = \alpha(1-\beta)\beta^j$ are needed (docs/theory.md).
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError
from sde._setting import Setting


def _terms(beta: float) -> int:
    """The number of powers of beta that matter in double precision."""
    return 1 if beta == 0.0 else max(1, math.ceil(math.log(1e-17) / math.log(beta)))


def _check(setting: Setting, beta: float) -> None:
    if beta > 0.0 and not setting.problem.exponential:
        raise PGPOValueError(
            "the averaged equation of a running mean is closed only for rho = exp(alpha I); got "
            f"rho_max={setting.problem.rho_max!r} with beta={beta!r}. Use rho_max=inf."
        )


def _past(alpha: float, beta: float) -> Float[Array, " J"]:
    """s_j for j = 0, 1, ..."""
    return alpha * (1.0 - beta) * beta ** jnp.arange(_terms(beta), dtype=float)


def averaged_drift(
    setting: Setting, theta: Float[Array, " d"], beta: float, lagged: bool
) -> Float[Array, " d"]:
    r"""The averaged b.

    Lagged: $-E_\pi[\rho(J)]\nabla L = -\prod_{j\ge0} M(s_j)\,\nabla L$, parallel to $\nabla L$, so
    that its stationary points are those of L. Inclusive:
    $-\prod_{j\ge1} M(s_j)\; E_B[e^{s_0 I_B} g_B]$. At beta = 0 the lagged case is the delayed
    signal, $-E[\rho_B]\nabla L$, for any multiplier; the inclusive one is Algorithm 1.
    """
    _check(setting, beta)
    problem = setting.problem
    weights, gradients, signals = setting.enumerate(theta)
    if beta == 0.0:
        rho = problem.multiplier(signals)
        if lagged:
            return -(weights @ rho) * problem.gradient(theta)
        return -(weights * rho) @ gradients
    s = _past(problem.alpha, beta)
    powers = jnp.exp(s[:, None] * signals)
    if lagged:
        return -jnp.prod(powers @ weights) * problem.gradient(theta)
    return -jnp.prod(powers[1:] @ weights) * ((weights * powers[0]) @ gradients)


def averaged_covariance(
    setting: Setting, theta: Float[Array, " d"], beta: float, lagged: bool
) -> Float[Array, "d d"]:
    r"""The long-run (Green-Kubo) covariance $S = C_0 + \sum_{r\ge1}(C_r + C_r^T)$ of the steps.

    $C_r = Cov_\pi(h_0, h_r)$ at frozen theta. Successive steps are correlated through J, so the
    variance of one step is not the diffusion. (Order 1 does not depend on S; Var/eta does.) With
    $M_r(j) = M((1+\beta^r)s_j)$ and $P_r = \prod_{j<r} M(s_j)$,

    lagged: $E[h_0 h_r^T] = \prod_{j\ge0} M_r(j)\; P_{r-1}\; E[e^{s_{r-1}I}g]\,\nabla L^T$;
    inclusive: $\prod_{j\ge1} M_r(j)\; E[e^{(1+\beta^r)s_0 I}g]\; (P_r/M(s_0))\; E[e^{s_0I}g]^T$.
    """
    _check(setting, beta)
    problem = setting.problem
    weights, gradients, signals = setting.enumerate(theta)
    mean = averaged_drift(setting, theta, beta, lagged)
    if beta == 0.0:
        return _delayed_covariance(setting, theta, mean, lagged)
    s = _past(problem.alpha, beta)
    single = jnp.exp(s[:, None] * signals) @ weights
    partial = jnp.concatenate([jnp.ones((1,), single.dtype), jnp.cumprod(single)[:-1]])
    lags = jnp.arange(1, len(s) + 1, dtype=s.dtype)
    factors = 1.0 + beta**lags
    paired = jnp.exp((factors[:, None] * s)[..., None] * signals) @ weights
    second = jnp.einsum("M,Md,Me->Mde", weights, gradients, gradients)
    if lagged:
        tilted = jnp.exp(s[:, None] * signals) @ (weights[:, None] * gradients)
        left = (jnp.prod(paired, axis=1) * partial)[:, None] * tilted
        right = problem.gradient(theta)
        now = jnp.prod(jnp.exp(2.0 * s[:, None] * signals) @ weights) * jnp.sum(second, axis=0)
    else:
        tilted = jnp.exp(factors[:, None] * s[0] * signals) @ (weights[:, None] * gradients)
        between = jnp.concatenate([jnp.ones((1,), single.dtype), jnp.cumprod(single[1:])])
        left = (jnp.prod(paired[:, 1:], axis=1) * between)[:, None] * tilted
        right = (weights * jnp.exp(s[0] * signals)) @ gradients
        rest = jnp.prod(jnp.exp(2.0 * s[1:, None] * signals) @ weights)
        now = rest * jnp.einsum("M,Mde->de", jnp.exp(2.0 * s[0] * signals), second)
    later = jnp.sum(left[:, :, None] * right - jnp.outer(mean, mean), axis=0)
    return now - jnp.outer(mean, mean) + later + later.T


def _delayed_covariance(
    setting: Setting, theta: Float[Array, " d"], mean: Float[Array, " d"], lagged: bool
) -> Float[Array, "d d"]:
    """beta = 0: only neighbouring steps are correlated, and only when the signal is lagged."""
    weights, gradients, signals = setting.enumerate(theta)
    rho = setting.problem.multiplier(signals)
    second = jnp.einsum("M,Md,Me->Mde", weights, gradients, gradients)
    if not lagged:
        return jnp.einsum("M,Mde->de", rho**2, second) - jnp.outer(mean, mean)
    gradient = setting.problem.gradient(theta)
    average = weights @ rho
    coupling = (weights * (rho - average)) @ gradients
    neighbour = average * jnp.outer(coupling, gradient)
    now = (weights @ rho**2) * jnp.sum(second, axis=0) - jnp.outer(mean, mean)
    return now + neighbour + neighbour.T
