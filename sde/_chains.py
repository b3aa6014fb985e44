"""The chains: the steps of the algorithms, with drift and covariance of one step."""

import abc
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError
from sde._averaging import averaged_covariance, averaged_drift
from sde._minibatches import Minibatches
from sde._setting import Setting, weighted_covariance, weighted_deviations
from sde.problems import Problem


@dataclass(frozen=True)
class Chain(abc.ABC):
    r"""A Markov chain $z_{k+1} = z_k + \eta\,h(z_k, B_k)$ over independent minibatches.

    The state z is a vector that begins with theta: theta, or (theta, J) for a chain that remembers
    a signal J. `drift` and `covariance` are the b and S of the equation that tracks the chain as
    eta goes to zero. The state of the equation, theta or (theta, J), begins at `equation_start`.

    A chain of your own, whose state is any pytree, is a `StateChain`.
    """

    @property
    def remembers(self) -> bool:
        """Whether the state of the chain is (theta, J) rather than theta."""
        return False

    @property
    def tracks_memory(self) -> bool:
        """Whether the state of its equation is (theta, J) rather than theta."""
        return False

    @property
    def modulated(self) -> bool:
        """Whether the steps are scaled by rho, so that its kink matters."""
        return True

    @property
    def memoryless(self) -> bool:
        """Whether the moments of one step are those of (b, S), which order 2 needs."""
        return not self.remembers

    @property
    def told_population(self) -> "Chain | None":
        """The same chain with I(theta) instead of the minibatch's signal, or `None`."""
        return None

    def initial_state(self, problem: Problem) -> Float[Array, " m"]:
        """Where the chain starts."""
        return problem.start

    def equation_start(self, problem: Problem) -> Float[Array, " m"]:
        """Where the equation that tracks the chain starts."""
        return problem.start

    def batch_rows(self, batches: Minibatches) -> Array:
        """The argument of `step`, one row per minibatch: the share of each example.

        `StateChain` gets the indices of the examples instead.
        """
        return jnp.asarray(batches.fractions)

    def observed(self, problem: Problem) -> int | None:
        """The number of coordinates with control variates in Monte Carlo; `None` means all."""
        return None

    def check(self, problem: Problem, eta: float) -> None:
        """Refuse a problem or a step size, before anything runs.

        Raises:
            ValueError: the problem or the step size is refused. By default nothing is refused.
        """
        del problem, eta

    def check_limit(self, problem: Problem) -> None:
        """Refuse a chain that has no b and S for an equation to be built from.

        Raises:
            ValueError: the chain has none. The message says why.
        """
        del problem

    def second_drift(self, setting: Setting, state: Float[Array, " m"]) -> Float[Array, " m"]:
        r"""c of $E z_{k+1} = z_k + \eta b + \eta^2 c + \dots$; 0 where h does not depend on eta."""
        return jnp.zeros_like(state)

    @abc.abstractmethod
    def step(
        self,
        problem: Problem,
        state: Float[Array, " m"],
        fractions: Float[Array, " N"],
        eta: Float[Array, ""] | float,
    ) -> Float[Array, " m"]:
        """The next state, for the minibatch in which example n has the share `fractions[n]`."""

    @abc.abstractmethod
    def drift(self, setting: Setting, state: Float[Array, " m"]) -> Float[Array, " m"]:
        """b of the tracking equation, per unit of time."""

    @abc.abstractmethod
    def covariance(self, setting: Setting, state: Float[Array, " m"]) -> Float[Array, "m m"]:
        """S of the tracking equation; its diffusion matrix is eta S."""

    def deviations(self, setting: Setting, state: Float[Array, " m"]) -> Float[Array, "q m"] | None:
        """D with D^T D = S, one row per minibatch or example; `None` if there is none.

        Noise of a long state is made of it, without a matrix [m, m] or its root.
        """
        del setting, state
        return None


@dataclass(frozen=True)
class SGD(Chain):
    r"""Eq. 3: $h = -g_B$, so $b = -\nabla L$ and $S = \Sigma_B$."""

    @property
    def modulated(self):
        return False

    def step(self, problem, state, fractions, eta):
        return state - eta * (fractions @ problem.gradients(state))

    def drift(self, setting, state):
        return -setting.problem.gradient(state)

    def covariance(self, setting, state):
        return setting.gradient_covariance(state)

    def deviations(self, setting, state):
        return setting.gradient_deviations(state)


@dataclass(frozen=True)
class PopulationPGPO(Chain):
    r"""PGPO with the population signal: $h = -\rho(I(\theta)) g_B$.

    It has $b = -\rho\nabla L$ and $S = \rho^2\Sigma_B$. Theorem 2(ii) is a statement about this
    chain."""

    def step(self, problem, state, fractions, eta):
        rho = problem.multiplier(problem.information(state))
        return state - eta * rho * (fractions @ problem.gradients(state))

    def drift(self, setting, state):
        problem = setting.problem
        return -problem.multiplier(problem.information(state)) * problem.gradient(state)

    def covariance(self, setting, state):
        rho = setting.problem.multiplier(setting.problem.information(state))
        return rho**2 * setting.gradient_covariance(state)

    def deviations(self, setting, state):
        rho = setting.problem.multiplier(setting.problem.information(state))
        return rho * setting.gradient_deviations(state)


@dataclass(frozen=True)
class MinibatchPGPO(Chain):
    r"""Algorithm 1 as it is run: $h = -\rho(I_B) g_B$, signal and gradient of one minibatch.

    $b = -E_B[\rho_B g_B] = -E[\rho_B]\nabla L - Cov_B(\rho_B, g_B)$, $S = Cov_B(\rho_B g_B)$.
    """

    @property
    def told_population(self):
        return PopulationPGPO()

    def step(self, problem, state, fractions, eta):
        rho = problem.multiplier(fractions @ problem.signals(state))
        return state - eta * rho * (fractions @ problem.gradients(state))

    def drift(self, setting, state):
        weights, gradients, signals = setting.enumerate(state)
        return -(weights * setting.problem.multiplier(signals)) @ gradients

    def covariance(self, setting, state):
        weights, steps = self._steps(setting, state)
        return weighted_covariance(weights, steps, steps)

    def deviations(self, setting, state):
        return weighted_deviations(*self._steps(setting, state))

    def _steps(self, setting, state):
        weights, gradients, signals = setting.enumerate(state)
        return weights, setting.problem.multiplier(signals)[:, None] * gradients


@dataclass(frozen=True)
class RememberingPGPO(Chain):
    r"""PGPO through a running mean of the signal, $J_{k+1} = \beta J_k + (1-\beta) I_{B_k}$.

    $\theta_{k+1} = \theta_k - \eta\,\rho(J_k) g_{B_k}$ if `lagged`, else with $\rho(J_{k+1})$.

    * beta fixed: J is fast, theta is tracked by an averaged equation (see `averaged_drift`).
    * $1 - \beta = \lambda\eta$ (`rate` is lambda): J is as slow as theta, and the tracked state is
      (theta, J): $b = (-\rho(J)\nabla L,\ \lambda(I(\theta) - J))$ and S the covariance of
      $(-\rho(J) g_B,\ \lambda I_B)$, whose off-diagonal part is $-\rho\lambda Cov(g, i)_B$.

    Args:
        beta: fixed decay in [0, 1), or `None` if `rate` is given.
        rate: lambda > 0, or `None`.
        lagged: whether the multiplier sees the mean before this minibatch entered.
        initial_information: J_0 in nats; `None` for the population signal at theta0.
    """

    beta: float | None = 0.5
    rate: float | None = None
    lagged: bool = True
    initial_information: float | None = None

    def __post_init__(self):
        if (self.beta is None) == (self.rate is None):
            raise PGPOValueError(
                f"give exactly one of beta and rate, got beta={self.beta!r}, rate={self.rate!r}"
            )
        if self.beta is not None and not 0.0 <= self.beta < 1.0:
            raise PGPOValueError(f"beta must lie in [0, 1), got {self.beta!r}")
        if self.rate is not None and not self.rate > 0.0:
            raise PGPOValueError(f"rate must be positive, got {self.rate!r}")

    @property
    def remembers(self):
        return True

    @property
    def tracks_memory(self):
        return self.rate is not None

    def initial_state(self, problem):
        if self.initial_information is None:
            start = problem.information(problem.start)
        else:
            start = jnp.asarray(self.initial_information, dtype=float)
        return jnp.append(problem.start, start)

    def equation_start(self, problem):
        return self.initial_state(problem) if self.tracks_memory else problem.start

    def decay(self, eta):
        """beta, or 1 - rate * eta."""
        if self.rate is not None:
            return 1.0 - self.rate * eta
        assert self.beta is not None
        return self.beta

    def step(self, problem, state, fractions, eta):
        theta, mean = state[:-1], state[-1]
        decay = self.decay(eta)
        new_mean = decay * mean + (1.0 - decay) * (fractions @ problem.signals(theta))
        rho = problem.multiplier(mean if self.lagged else new_mean)
        new_theta = theta - eta * rho * (fractions @ problem.gradients(theta))
        return jnp.append(new_theta, new_mean)

    def drift(self, setting, state):
        if self.rate is None:
            assert self.beta is not None
            return averaged_drift(setting, state, self.beta, self.lagged)
        theta, mean = state[:-1], state[-1]
        problem = setting.problem
        return jnp.append(
            -problem.multiplier(mean) * problem.gradient(theta),
            self.rate * (problem.information(theta) - mean),
        )

    def covariance(self, setting, state):
        if self.rate is None:
            assert self.beta is not None
            return averaged_covariance(setting, state, self.beta, self.lagged)
        weights, moves = self._moves(setting, state, self.rate)
        return weighted_covariance(weights, moves, moves)

    def deviations(self, setting, state):
        # A sum over the past, that of a fixed beta, has none.
        if self.rate is None:
            return None
        return weighted_deviations(*self._moves(setting, state, self.rate))

    def _moves(self, setting, state, rate):
        theta, mean = state[:-1], state[-1]
        weights, gradients, signals = setting.enumerate(theta)
        steps = -setting.problem.multiplier(mean) * gradients
        return weights, jnp.concatenate([steps, rate * signals[:, None]], axis=1)
