"""The drifts and diffusion matrices of the equations.

A drift is per unit of time (1/eta steps); a diffusion matrix is the covariance per unit of time,
every eta included.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sde._chains import Chain
from sde._setting import Setting

_State: TypeAlias = Float[Array, " m"]
_Matrix: TypeAlias = Float[Array, "m m"]
_Rows: TypeAlias = Float[Array, "q m"]


@dataclass(frozen=True)
class Factored:
    """A diffusion matrix that is also known as D^T D.

    Attributes:
        matrix: (chain, setting, state `[m]`) -> `[m, m]`.
        rows: (chain, setting, state `[m]`) -> D `[q, m]`, or `None` where a chain has none.
    """

    matrix: Callable[[Chain, Setting, _State], _Matrix]
    rows: Callable[[Chain, Setting, _State], _Rows | None]

    def __call__(self, chain: Chain, setting: Setting, state: _State) -> _Matrix:
        return self.matrix(chain, setting, state)


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
    return jnp.where(own[:, None] == own, _matrix_chain(chain, setting, state), 0.0)


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


def _matrix_sgd(chain: Chain, setting: Setting, state: _State) -> _Matrix:
    del chain
    return setting.eta * setting.gradient_covariance(state)


def _rows_sgd(chain: Chain, setting: Setting, state: _State) -> _Rows:
    del chain
    return jnp.sqrt(setting.eta) * setting.gradient_deviations(state)


diffusion_sgd = Factored(_matrix_sgd, _rows_sgd)
r"""$\eta\Sigma_B$ (Eq. 7; the paper prints |B| = 1)."""


def diffusion_literal(chain: Chain, setting: Setting, state: _State) -> _Matrix:
    r"""$\Sigma_B$, without the eta: Theorem 2 as printed."""
    del chain
    return setting.gradient_covariance(state)


def _population_rho(setting: Setting, state: _State) -> Float[Array, ""]:
    return setting.problem.multiplier(setting.problem.information(state))


def _matrix_population(chain: Chain, setting: Setting, state: _State) -> _Matrix:
    return _population_rho(setting, state) ** 2 * _matrix_sgd(chain, setting, state)


def _rows_population(chain: Chain, setting: Setting, state: _State) -> _Rows:
    return _population_rho(setting, state) * _rows_sgd(chain, setting, state)


diffusion_population = Factored(_matrix_population, _rows_population)
r"""$\eta\rho(I)^2\Sigma_B$."""


def _matrix_chain(chain: Chain, setting: Setting, state: _State) -> _Matrix:
    return setting.eta * chain.covariance(setting, state)


def _rows_chain(chain: Chain, setting: Setting, state: _State) -> _Rows | None:
    rows = chain.deviations(setting, state)
    return None if rows is None else jnp.sqrt(setting.eta) * rows


diffusion_chain = Factored(_matrix_chain, _rows_chain)
r"""$\eta S$, the chain's own covariance."""
