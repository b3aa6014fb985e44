"""Draws one token per row from log-probabilities: from all, from the top k, or from a nucleus."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

# A smaller draw is indistinguishable from 0.
_SMALLEST = 2.0**-33


def block_width(vocabulary: int) -> int:
    """Number of tokens in a block. One choice among many tokens becomes two choices among few."""
    return 128 if vocabulary >= 4096 else min(32, vocabulary)


def bits_of_a_draw(vocabulary: int) -> int:
    """Number of random words of 32 bits that `draw` needs for a row."""
    width = block_width(vocabulary)
    return -(-vocabulary // width) + width


def draw(logprobs: Float[Array, "R V"], bits: UInt32[Array, "R W"]) -> Int[Array, " R"]:
    """Draw a token of each row: first a block of tokens by its sum, then a token of the block.

    Each draw is an exponential race: candidate i has an exponential waiting time of rate p_i, and
    the smallest time wins. So i wins with probability p_i / sum p. Every token can win, however
    small its probability is. This would not hold for a running sum in float32 and a uniform number
    of 23 bits. Only the sums of the blocks are computed. The probabilities are exact up to float32
    rounding and a total of 2**-32 per race.

    Args:
        logprobs: log-probabilities in nats, not necessarily normalised. A token at -inf is never
            drawn. At least one per row is above -80.
        bits: random bits, W = `bits_of_a_draw(V)` words per row.

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
    # Relative to the largest probability of the block, so that nothing underflows.
    chance = jnp.exp(chosen - jnp.max(chosen, axis=-1, keepdims=True))
    token = jnp.argmax(chance / waits[:, blocks:], axis=-1).astype(jnp.int32)
    return block * width + token


def _waits(bits: UInt32[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Exponential times of rate 1, in (0, 17]. They are most exact where they are small."""
    uniform = bits.astype(jnp.float32) * 2.0**-32 + _SMALLEST
    # Rounding may give 1, which would mean an infinite time.
    return -jnp.log1p(-jnp.minimum(uniform, 1 - 2.0**-24))


def likeliest(logprobs: Float[Array, "R V"], k: int) -> Float[Array, "R V"]:
    """Keep the k most likely tokens, renormalised; set the others to -inf.

    The threshold is found as in `nucleus`, but on the log-probabilities. They keep their order
    where probabilities would underflow.

    Args:
        logprobs: log-probabilities in nats, none above 0.
        k: number of tokens to keep, in [1, V]. Tokens exactly as likely as the k-th are kept too.

    Returns:
        Log-probabilities given that the token is one of those that are kept.
    """
    # Non-negative floats are ordered like their bits. A small number is a likely token.
    bits = jax.lax.bitcast_convert_type(jnp.abs(logprobs), jnp.int32)

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        # At least k tokens are at or below `high`, and fewer than k at or below `low`.
        low, high = bounds
        middle = low + (high - low) // 2
        enough = jnp.sum(bits <= middle[:, None], axis=-1, dtype=jnp.int32) >= k
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    low = jnp.full(logprobs.shape[0], -1, jnp.int32)
    infinite = jax.lax.bitcast_convert_type(jnp.float32(jnp.inf), jnp.int32)
    _, high = jax.lax.fori_loop(0, 31, halve, (low, low + 1 + infinite))
    return jax.nn.log_softmax(jnp.where(bits <= high[:, None], logprobs, -jnp.inf))


def nucleus(logprobs: Float[Array, "R V"], top_p: float | Float[Array, ""]) -> Float[Array, "R V"]:
    """Set the log-probabilities of tokens outside the nucleus to -inf.

    The threshold is found by bisection on the bits of the probabilities, because non-negative
    floats are ordered like their bits. This takes 31 sums over the vocabulary instead of a sort.

    Args:
        logprobs: log-probabilities in nats.
        top_p: probability mass to keep, in (0, 1].

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
