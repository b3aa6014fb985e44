"""Drawing one token per row from log-probabilities: all of them, the k likeliest, a nucleus."""

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


def likeliest(logprobs: Float[Array, "R V"], k: int) -> Float[Array, "R V"]:
    """The k likeliest tokens, renormalised; the others are at -inf.

    The threshold is found as in `nucleus`, here on the log-probabilities themselves, whose order
    is kept where a probability would underflow.

    Args:
        logprobs: log-probabilities in nats, none above 0.
        k: how many to keep, in [1, V]. Tokens exactly as likely as the k-th are kept too.

    Returns:
        Log-probabilities given that the token is one of those kept.
    """
    # Floats that are not negative are ordered as their bits: a small number is a likely token.
    bits = jax.lax.bitcast_convert_type(jnp.abs(logprobs), jnp.int32)

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        # Up to `high` there are k tokens at least; up to `low` there are fewer.
        low, high = bounds
        middle = low + (high - low) // 2
        enough = jnp.sum(bits <= middle[:, None], axis=-1, dtype=jnp.int32) >= k
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    low = jnp.full(logprobs.shape[0], -1, jnp.int32)
    infinite = jax.lax.bitcast_convert_type(jnp.float32(jnp.inf), jnp.int32)
    _, high = jax.lax.fori_loop(0, 31, halve, (low, low + 1 + infinite))
    return jax.nn.log_softmax(jnp.where(bits <= high[:, None], logprobs, -jnp.inf))


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
