"""Drawing one token per row from log-probabilities, whole or cut to a nucleus."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def invert(logprobs: Float[Array, "R V"], number: Float[Array, " R"]) -> Int[Array, " R"]:
    """Draws by inverting the distribution function.

    Args:
        logprobs: log-probabilities in nats, not necessarily normalised; -inf is never drawn.
        number: uniform in [0, 1), one per row.

    Returns:
        The first token at which the cumulated probability exceeds `number` of the whole.
    """
    chance = jnp.exp(logprobs)
    total = jnp.cumsum(chance, axis=-1)
    # A sum in parallel may step back by a rounding, onto a token without probability.
    passed = (total > number[:, None] * total[:, -1:]) & (chance > 0)
    return jnp.argmax(passed, axis=-1)


def nucleus(logprobs: Float[Array, "R V"], top_p: float | Float[Array, ""]) -> Float[Array, "R V"]:
    """Log-probabilities with the tokens outside the nucleus at -inf.

    The threshold is found by bisection on the bits of the probabilities (non-negative floats are
    ordered as their bits), 31 sums over the vocabulary in place of a sort.

    Args:
        logprobs: log-probabilities in nats.
        top_p: the mass to keep, in (0, 1].

    Returns:
        `logprobs`, filtered, not renormalised.
    """
    chance = jnp.exp(logprobs)
    bits = jax.lax.bitcast_convert_type(chance, jnp.int32)

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        # The mass at or above `low` reaches top_p; at or above `high` it does not.
        low, high = bounds
        middle = low + (high - low) // 2
        mass = jnp.sum(jnp.where(bits >= middle[:, None], chance, 0.0), axis=-1)
        enough = mass >= top_p
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low = jnp.zeros(logprobs.shape[0], jnp.int32)
    one = jax.lax.bitcast_convert_type(jnp.float32(1.0), jnp.int32)
    low, _ = jax.lax.fori_loop(0, 31, halve, (low, low + one + 2))
    return jnp.where(bits >= low[:, None], logprobs, -jnp.inf)
