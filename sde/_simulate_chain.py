"""Ensembles of a chain: the algorithm itself, run on many independent streams of minibatches."""

import functools as ft
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ._chains import Chain
from ._control_variate import controls
from ._minibatches import minibatches
from .problems import Problem

# The mean step is a sum over all minibatches; beyond this many it costs more than it saves.
_MOST_CONTROLLED = 4096


@ft.lru_cache(maxsize=64)
def chain_program(
    problem: Problem, chain: Chain, batch_size: int, replace: bool, paths: int, control: bool
) -> Callable[..., tuple[Array, Array]]:
    """A function (key, eta, steps) -> final states [paths, m] and their controls [paths, q].

    The controls are empty unless `control`.
    """
    batches = minibatches(problem.num_examples, batch_size, replace)
    uniform = bool(np.all(batches.probabilities == batches.probabilities[0]))
    control = control and len(batches.probabilities) <= _MOST_CONTROLLED

    def run(key: PRNGKeyArray, eta: Float[Array, ""], steps: Int[Array, ""]) -> tuple[Array, Array]:
        fractions = jnp.asarray(batches.fractions)
        probabilities = jnp.asarray(batches.probabilities)
        start = chain.initial_state(problem)
        m = start.shape[0]

        def advance(state: Float[Array, " m"], fraction: Float[Array, " N"]) -> Array:
            return chain.step(problem, state, fraction, eta)

        def mean_step(state: Float[Array, " m"]) -> Array:
            return probabilities @ jax.vmap(advance, (None, 0))(state, fractions)

        def draw(k: Int[Array, ""]) -> Int[Array, " paths"]:
            at = jax.random.fold_in(key, k)
            if uniform:
                return jax.random.randint(at, (paths,), 0, len(batches.probabilities))
            edges = jnp.cumsum(probabilities)[:-1]
            return jnp.searchsorted(edges, jax.random.uniform(at, (paths,)))

        def step(k: Int[Array, ""], carry: tuple[Any, ...]) -> tuple[Any, ...]:
            states, fluctuation, centre, covariance = carry
            batch = draw(k)
            states = jax.vmap(advance)(states, fractions[batch])
            if control:
                moves = jax.vmap(advance, (None, 0))(centre, fractions)
                mean = probabilities @ moves
                noise = moves - mean
                jacobian = jax.jacfwd(mean_step)(centre)
                fluctuation = fluctuation @ jacobian.T + noise[batch]
                covariance = jacobian @ covariance @ jacobian.T + jnp.einsum(
                    "M,Mi,Mj->ij", probabilities, noise, noise
                )
                centre = mean
            return states, fluctuation, centre, covariance

        fluctuation = jnp.zeros((paths, m if control else 0))
        carry = (jnp.broadcast_to(start, (paths, m)), fluctuation, start, jnp.zeros((m, m)))
        states, fluctuation, _, covariance = jax.lax.fori_loop(0, steps, step, carry)
        return states, controls(fluctuation, covariance) if control else fluctuation

    return run
