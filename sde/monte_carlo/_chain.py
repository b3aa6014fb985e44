"""Ensembles of a chain: the algorithm itself, run on many independent streams of minibatches."""

import functools as ft
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from sde._chains import Chain
from sde._minibatches import minibatches
from sde.monte_carlo._control_variate import (
    MOST_COORDINATES,
    Expansion,
    controls,
    second_order_term,
)
from sde.problems import Problem

# The mean step is a sum over all minibatches; beyond this many it costs more than it saves.
_MOST_CONTROLLED = 4096


@ft.lru_cache(maxsize=64)
def chain_program(
    problem: Problem, chain: Chain, batch_size: int, replace: bool, paths: int, control: bool
) -> Callable[..., tuple[Array, Array]]:
    """A function (key, eta, steps) -> final states [paths, m] and their controls [paths, q].

    The controls are empty unless `control`.

    Added in version 0.2.0.
    """
    batches = minibatches(problem.num_examples, batch_size, replace)
    uniform = bool(np.all(batches.probabilities == batches.probabilities[0]))
    control = control and len(batches.probabilities) <= _MOST_CONTROLLED
    observed = chain.observed(problem)

    def run(key: PRNGKeyArray, eta: Float[Array, ""], steps: Int[Array, ""]) -> tuple[Array, Array]:
        rows = chain.batch_rows(batches)
        probabilities = jnp.asarray(batches.probabilities)
        start = chain.initial_state(problem)
        m = start.shape[0]
        follow = control and m <= MOST_COORDINATES

        def advance(state: Float[Array, " m"], row: Array) -> Array:
            return chain.step(problem, state, row, eta)

        def mean_step(state: Float[Array, " m"]) -> Array:
            return probabilities @ jax.vmap(advance, (None, 0))(state, rows)

        slope_of = jax.jacfwd(mean_step)

        def draw(k: Int[Array, ""]) -> Int[Array, " paths"]:
            at = jax.random.fold_in(key, k)
            if uniform:
                return jax.random.randint(at, (paths,), 0, len(batches.probabilities))
            edges = jnp.cumsum(probabilities)[:-1]
            return jnp.searchsorted(edges, jax.random.uniform(at, (paths,)))

        def expand(known: Expansion, centre: Array, batch: Array) -> tuple[Expansion, Array]:
            moves = jax.vmap(advance, (None, 0))(centre, rows)
            mean = probabilities @ moves
            noise = moves - mean
            slope, curvature = slope_of(centre), jax.jacfwd(slope_of)(centre)
            slopes = jax.vmap(jax.jacfwd(advance), (None, 0))(centre, rows) - slope
            linear, quadratic = known.linear, known.quadratic
            kicks = jnp.einsum("pij,pj->pi", slopes[batch], linear)
            # Of two steps' moments: the noise of one step is independent of all before it.
            return Expansion(
                linear @ slope.T + noise[batch],
                quadratic @ slope.T + second_order_term(curvature, linear) + kicks,
                slope @ known.covariance @ slope.T
                + jnp.einsum("M,Mi,Mj->ij", probabilities, noise, noise),
                slope @ known.mean + 0.5 * jnp.einsum("ijk,jk->i", curvature, known.covariance),
                jnp.einsum("abc,ia,jb,kc->ijk", known.third, slope, slope, slope)
                + jnp.einsum("M,Mi,Mj,Mk->ijk", probabilities, noise, noise, noise),
                slope @ known.mixed @ slope.T
                + 0.5 * jnp.einsum("ia,jbc,abc->ij", slope, curvature, known.third),
            ), mean

        def step(k: Int[Array, ""], carry: tuple[Any, ...]) -> tuple[Any, ...]:
            states, known, centre = carry
            batch = draw(k)
            states = jax.vmap(advance)(states, rows[batch])
            if follow:
                known, centre = expand(known, centre, batch)
            return states, known, centre

        known = Expansion.start(paths, m) if follow else None
        carry = (jnp.broadcast_to(start, (paths, m)), known, start)
        states, known, _ = jax.lax.fori_loop(0, steps, step, carry)
        return states, jnp.zeros((paths, 0)) if known is None else controls(known, observed)

    return run
