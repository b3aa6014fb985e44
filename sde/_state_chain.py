"""Chains of your own: a plain function of a state, which may be any pytree."""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pgpo_jax.errors import PGPOValueError
from sde._chains import Chain
from sde._flat_state import FlatState, flat_state
from sde._indices import check_indices
from sde._minibatches import Minibatches
from sde._setting import Setting, weighted_covariance, weighted_deviations
from sde.problems import Problem

# Tolerance between a state and the state after a step of length zero.
_STILL = 1e-9


def _theta(state: Any) -> Array:
    return state[0]


@dataclass(frozen=True)
class StateChain(Chain):
    r"""A chain whose state is any pytree of numbers: theta, momentum, second moment, a count.

    Both functions must be traceable by JAX. The engines see the state as one vector that begins
    with theta.

    The equations `"ode"`, `"corrected"` and `"second_order"` need b and S. They are derived from
    `advance` itself, if a step of length zero does not change the state:
    $z_{k+1} = z_k + \eta h + \frac{\eta^2}{2} h' + \dots$ has $b = E h$ and $S = \mathrm{Cov}\,h$
    with $h = \partial_\eta z_{k+1}$ at $\eta = 0$. Otherwise pass as `limit` a chain with b and S
    to use. An example is a momentum with a fixed decay, which relaxes within a time of order eta.

    Args:
        begin: function from the problem to the first state.
        advance: function of (problem, state, examples, eta) that returns the next state. `examples`
            are the indices `[|B|]` of the minibatch, so
            `problem.gradients(theta)[examples].mean(0)` is its gradient.
        theta: function from a state to theta `[d]`, which are entries of the state; by default its
            first item.
        limit: chain whose b and S are used in equations; `None` derives them as above.
        name: name in reports and errors.
        population: the same chain with I(theta) instead of the minibatch's signal, if there is one.
            The equation `"population_signal"` uses it.

    Raises:
        ValueError: `advance` returns another structure, shape or dtype, theta is no part of the
            state, or an equation needs b or S and there is no such limit. Raised before anything is
            simulated.

    Example (heavy-ball momentum, both decays of order eta):

        >>> import jax.numpy as jnp, sde
        >>> def begin(problem):
        ...     return problem.start, jnp.zeros(problem.dim)
        >>> def advance(problem, state, examples, eta):
        ...     theta, momentum = state
        ...     gradient = problem.gradients(theta)[examples].mean(0)
        ...     momentum = momentum + 2.0 * eta * (gradient - momentum)
        ...     return theta - eta * momentum, momentum
        >>> chain = sde.StateChain(begin, advance, name="momentum")
        >>> sde.run_chain("torus", chain, eta=1 / 4, paths=5, key=jax.random.key(0)).shape
        (5, 2)

    Added in version 0.2.0.
    """

    begin: Callable[[Problem], Any]
    advance: Callable[[Problem, Any, Int[Array, " B"], Any], Any]
    theta: Callable[[Any], Array] = _theta
    limit: Chain | None = None
    name: str = "own chain"
    population: Chain | None = None

    def __repr__(self) -> str:
        return self.name

    @property
    def told_population(self):
        return self.population

    @property
    def tracks_memory(self):
        return self.limit.tracks_memory if self.limit is not None else False

    @property
    def memoryless(self):
        return self.limit.memoryless if self.limit is not None else True

    def check(self, problem: Problem, eta: float) -> None:
        _check_reads(self, problem)

    def batch_rows(self, batches: Minibatches) -> Array:
        return jnp.asarray(batches.examples)

    def observed(self, problem: Problem) -> int | None:
        return problem.dim

    def initial_state(self, problem):
        return _first(self, problem)[1]

    def equation_start(self, problem):
        return self.initial_state(problem) if self.limit is None else self._limit_start(problem)

    def _limit_start(self, problem):
        assert self.limit is not None
        return self.limit.equation_start(problem)

    # `fractions` are the examples of `batch_rows`.
    def step(self, problem, state, fractions, eta):
        layout, _ = _first(self, problem)
        return layout.flatten(self.advance(problem, layout.unflatten(state), fractions, eta))

    def drift(self, setting, state):
        if self.limit is not None:
            return self.limit.drift(setting, state)
        weights, moves = self._moves(setting, state)
        return weights @ moves

    def covariance(self, setting, state):
        if self.limit is not None:
            return self.limit.covariance(setting, state)
        weights, moves = self._moves(setting, state)
        return weighted_covariance(weights, moves, moves)

    def deviations(self, setting, state):
        if self.limit is not None:
            return self.limit.deviations(setting, state)
        return weighted_deviations(*self._moves(setting, state))

    def second_drift(self, setting, state):
        if self.limit is not None:
            return self.limit.second_drift(setting, state)
        weights, rows = jnp.asarray(setting.batches.probabilities), self.batch_rows(setting.batches)
        return (
            0.5
            * weights
            @ jax.vmap(jax.jacfwd(jax.jacfwd(self._along(setting, state))), (None, 0))(
                jnp.zeros(()), rows
            )
        )

    def _along(self, setting: Setting, state: Float[Array, " m"]) -> Callable[..., Array]:
        return lambda eta, row: self.step(setting.problem, state, row, eta)

    def _moves(
        self, setting: Setting, state: Float[Array, " m"]
    ) -> tuple[Float[Array, " M"], Float[Array, "M m"]]:
        """Probabilities of the minibatches, and the derivative of a step in eta at 0 for each."""
        rows = self.batch_rows(setting.batches)
        slopes = jax.vmap(jax.jacfwd(self._along(setting, state)), (None, 0))
        return jnp.asarray(setting.batches.probabilities, state.dtype), slopes(jnp.zeros(()), rows)

    def check_limit(self, problem: Problem) -> None:
        if self.limit is not None:
            self.limit.check_limit(problem)
            return
        finite, move = _at_rest(self, problem)
        if not finite:
            raise PGPOValueError(
                f"{self.name} has no step that can be expanded in eta at eta=0, where it is not "
                "finite, so it has no equation. Pass as `limit` a chain with the b and S to use, "
                "or another scaling"
            )
        if not move <= _STILL:
            raise PGPOValueError(
                f"{self.name} must leave its state alone in a step of length eta=0 to have an "
                f"equation, but moves it by {move:.3g}: scale its decays with eta. Or pass as "
                "`limit` a chain with the b and S to use"
            )


@ft.lru_cache(maxsize=256)
def _check_reads(chain: StateChain, problem: Problem) -> None:
    with jax.enable_x64(True):
        _first(chain, problem)
        last = jnp.asarray([problem.num_examples - 1])
        state = chain.begin(problem)
    check_indices(chain.advance, f"the step of {chain.name}", problem, state, last, 1.0 / 1024)


@ft.lru_cache(maxsize=256)
def _at_rest(chain: StateChain, problem: Problem) -> tuple[bool, float]:
    """Whether steps have finite derivatives at eta=0, and how far they move the state.

    Both are checked at the start and after one step."""
    setting = Setting(problem, 0.0)
    rows = chain.batch_rows(setting.batches)

    @jax.jit
    def look(state: Float[Array, " m"]) -> tuple[Array, Array, Array]:
        still = jax.vmap(chain._along(setting, state), (None, 0))(jnp.zeros(()), rows)
        _, moves = chain._moves(setting, state)
        finite = jnp.all(jnp.isfinite(still)) & jnp.all(jnp.isfinite(moves))
        later = chain.step(problem, state, rows[0], 0.01)
        return finite, jnp.max(jnp.abs(still - state)), later

    with jax.enable_x64(True):
        finite, move, later = look(chain.initial_state(problem))
        later_finite, later_move, _ = look(later)
    return bool(finite & later_finite), float(jnp.maximum(move, later_move))


def _first(chain: StateChain, problem: Problem) -> tuple[FlatState, Float[Array, " m"]]:
    return _cached_first(chain, problem, jnp.result_type(float).itemsize)


@ft.lru_cache(maxsize=256)
def _cached_first(
    chain: StateChain, problem: Problem, float_bytes: int
) -> tuple[FlatState, Float[Array, " m"]]:
    del float_bytes
    # This may be called while a program is traced.
    with jax.ensure_compile_time_eval():
        return flat_state(chain.begin(problem), chain.theta, problem.dim, chain.name)
