"""Drawing one token per row from log-probabilities: all of them, the k likeliest, a nucleus."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

# Below it no draw is distinguished from 0.
_SMALLEST = 2.0**-33


def block_width(vocabulary: int) -> int:
    """How many tokens stand in a block, a choice among many being two choices among few."""
    return 128 if vocabulary >= 4096 else min(32, vocabulary)


def bits_of_a_draw(vocabulary: int) -> int:
    """How many random words of 32 bits `draw` needs for a row."""
    width = block_width(vocabulary)
    return -(-vocabulary // width) + width


def draw(logprobs: Float[Array, "R V"], bits: UInt32[Array, "R W"]) -> Int[Array, " R"]:
    """Draws a token of each row: first a block of tokens by its sum, then a token of the block.

    Each of the two is a race: everyone waits for an exponential time of rate p, and the first one
    wins, which is i with probability p_i / sum p. Unlike a running sum of float32 and a uniform
    number of 23 bits, a race can be won by every token, however small its probability is beside
    the sum of all others. The sums of the blocks are the only ones that are taken. The
    probabilities are right to float32 rounding, but for 2**-32 in all of each race.

    Args:
        logprobs: log-probabilities in nats, not necessarily normalised; -inf is never drawn, and
            at least one per row is above -80.
        bits: random, W = `bits_of_a_draw(V)` words per row.

    Returns:
        Token ids, int32.
    """
    rows, vocabulary = logprobs.shape
    width = block_width(vocabulary)
    blocks = -(-vocabulary // width)
    filled = jnp.pad(
        logprobs, ((0, 0), (0, blocks * width - vocabulary)), constant_values=-jnp.inf
    ).reshape(rows, blocks, width)
    waits = _waits(bits)
    mass = jnp.sum(jnp.exp(filled), axis=-1)
    block = jnp.argmax(mass / waits[:, :blocks], axis=-1).astype(jnp.int32)
    chosen = jnp.take_along_axis(filled, block[:, None, None], axis=1)[:, 0]
    # Relative to the likeliest one of the block, so that nothing underflows.
    chance = jnp.exp(chosen - jnp.max(chosen, axis=-1, keepdims=True))
    token = jnp.argmax(chance / waits[:, blocks:], axis=-1).astype(jnp.int32)
    return block * width + token


def _waits(bits: UInt32[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Exponential times of rate 1, in (0, 17]; small ones, which win, are the exact ones."""
    uniform = bits.astype(jnp.float32) * 2.0**-32 + _SMALLEST
    # Rounding may give 1, whose time would be infinite.
    return -jnp.log1p(-jnp.minimum(uniform, 1 - 2.0**-24))


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
