"""The drifts and diffusion matrices of the equations.

A drift is per unit of time (1/eta steps); a diffusion matrix is the covariance per unit of time,
every eta included.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sde._chains import Chain
from sde._setting import Setting

_State: TypeAlias = Float[Array, " m"]
_Matrix: TypeAlias = Float[Array, "m m"]


def drift_sgd(chain: Chain, setting: Setting, state: _State) -> _State:
    r"""$-\nabla L$ (Eq. 7)."""
    del chain
    return -setting.problem.gradient(state)


def drift_population(chain: Chain, setting: Setting, state: _State) -> _State:
    r"""$-\rho(I(\theta))\nabla L$, the drift of Theorem 2(ii)."""
    del chain
    problem = setting.problem
    return -problem.multiplier(problem.information(state)) * problem.gradient(state)


def drift_jensen(chain: Chain, setting: Setting, state: _State) -> _State:
    r"""$-E_B[\rho_B]\nabla L$: the Jensen term without the covariance."""
    del chain
    weights, _, signals = setting.enumerate(state)
    return -(weights @ setting.problem.multiplier(signals)) * setting.problem.gradient(state)


def drift_chain(chain: Chain, setting: Setting, state: _State) -> _State:
    r"""b, the chain's own mean step."""
    return chain.drift(setting, state)


def drift_population_signal(chain: Chain, setting: Setting, state: _State) -> _State:
    r"""b of the same chain with $I(\theta)$ as its signal: $\rho_B$ is read as $\rho(I)$."""
    assert chain.told_population is not None
    return chain.told_population.drift(setting, state)


def diffusion_population_signal(chain: Chain, setting: Setting, state: _State) -> _Matrix:
    r"""$\eta S$ of the same chain with $I(\theta)$ as its signal."""
    assert chain.told_population is not None
    return setting.eta * chain.told_population.covariance(setting, state)


def diffusion_independent(chain: Chain, setting: Setting, state: _State) -> _Matrix:
    r"""$\eta S$ without the covariance between the noise of theta and that of the memory."""
    own = jnp.arange(state.shape[0]) < setting.problem.dim
    return jnp.where(own[:, None] == own, diffusion_chain(chain, setting, state), 0.0)


def drift_second_order(chain: Chain, setting: Setting, state: _State) -> _State:
    r"""$b + \eta c - \frac{\eta}{2}(Db)\,b$, by one Jacobian-vector product.

    c is the `second_drift` of the chain, 0 for all chains whose h does not depend on eta.
    """
    mean, derivative = _along_itself(chain, setting, state)
    return mean - 0.5 * setting.eta * derivative + setting.eta * chain.second_drift(setting, state)


def drift_gradient_form(chain: Chain, setting: Setting, state: _State) -> _State:
    r"""$b - \frac{\eta}{4}\nabla|b|^2$, by one vector-Jacobian product: $(Db)^T b$, not $(Db)b$."""
    mean, pullback = jax.vjp(lambda x: chain.drift(setting, x), state)
    return mean - 0.5 * setting.eta * pullback(mean)[0]


def _along_itself(chain: Chain, setting: Setting, state: _State) -> tuple[_State, _State]:
    def drift(x: _State) -> _State:
        return chain.drift(setting, x)

    return jax.jvp(drift, (state,), (drift(state),))


def diffusion_none(chain: Chain, setting: Setting, state: _State) -> _Matrix:
    """0: an ordinary differential equation."""
    del chain, setting
    return jnp.zeros((state.shape[0], state.shape[0]), state.dtype)


def diffusion_sgd(chain: Chain, setting: Setting, state: _State) -> _Matrix:
    r"""$\eta\Sigma_B$ (Eq. 7; the paper prints |B| = 1)."""
    del chain
    return setting.eta * setting.gradient_covariance(state)


def diffusion_literal(chain: Chain, setting: Setting, state: _State) -> _Matrix:
    r"""$\Sigma_B$, without the eta: Theorem 2 as printed."""
    del chain
    return setting.gradient_covariance(state)


def diffusion_population(chain: Chain, setting: Setting, state: _State) -> _Matrix:
    r"""$\eta\rho(I)^2\Sigma_B$."""
    rho = setting.problem.multiplier(setting.problem.information(state))
    return rho**2 * diffusion_sgd(chain, setting, state)


def diffusion_chain(chain: Chain, setting: Setting, state: _State) -> _Matrix:
    r"""$\eta S$, the chain's own covariance."""
    return setting.eta * chain.covariance(setting, state)
