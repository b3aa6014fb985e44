"""One race: a token of each row, drawn by blocks from probabilities that need not add up to 1."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

# Below it no draw is distinguished from 0.
_SMALLEST = 2.0**-33


def block_width(vocabulary: int) -> int:
    """How many tokens stand in a block, a choice among many being two choices among few."""
    return 128 if vocabulary >= 4096 else min(32, vocabulary)


def bits_of_a_race(vocabulary: int) -> int:
    """How many random words of 32 bits `race` needs for a row."""
    width = block_width(vocabulary)
    return -(-vocabulary // width) + width


class Blocks(NamedTuple):
    """The logits of a row in blocks of tokens, relative to its largest one."""

    logits: Float[Array, "R n w"]
    chance: Float[Array, "R n w"]
    """Their exponentials."""

    def sums(self) -> Float[Array, "R n"]:
        """The mass of each block, up to a factor of the row."""
        return jnp.sum(self.chance, axis=-1)

    def at(self, token: Int[Array, " R"]) -> Float[Array, " R"]:
        """The relative logit of one token per row."""
        flat = self.logits.reshape(self.logits.shape[0], -1)
        return jnp.take_along_axis(flat, token[:, None], axis=1)[:, 0]


def in_blocks(logits: Float[Array, "R V"]) -> Blocks:
    """Cuts the vocabulary into blocks, the last one filled up with tokens of no chance.

    Args:
        logits: not necessarily normalised; one per row is finite.

    Returns:
        The blocks.
    """
    rows, vocabulary = logits.shape
    width = block_width(vocabulary)
    blocks = -(-vocabulary // width)
    relative = logits - jnp.max(logits, axis=-1, keepdims=True)
    missing = ((0, 0), (0, blocks * width - vocabulary))
    filled = jnp.pad(relative, missing, constant_values=-jnp.inf).reshape(rows, blocks, width)
    return Blocks(filled, jnp.exp(filled))


def race(
    blocks: Blocks,
    sums: Float[Array, "R n"],
    bits: UInt32[Array, "R W"],
    above: Float[Array, " R"] | None = None,
) -> Int[Array, " R"]:
    """Draws a token of each row: first a block of tokens by its sum, then a token of the block.

    Each draw is an exponential race: candidate i has an exponential waiting time of rate p_i, and
    the smallest time wins. So i wins with probability p_i / sum p. Every token can win, however
    small its probability is. This would not hold for a running sum in float32 and a uniform number
    of 23 bits. Only the sums of the blocks are computed. The probabilities are exact up to float32
    rounding and a total of 2**-32 per race.

    Args:
        blocks: of all tokens.
        sums: of those that take part, by block; one per row is positive.
        bits: random, W = `bits_of_a_race(V)` words per row.
        above: a relative logit; only tokens above it take part. None: all do.

    Returns:
        Token ids, int32.
    """
    count, width = blocks.logits.shape[1:]
    waits = _waits(bits)
    block = jnp.argmax(sums / waits[:, :count], axis=-1).astype(jnp.int32)
    inside = jnp.take_along_axis(blocks.logits, block[:, None, None], axis=1)[:, 0]
    if above is not None:
        inside = jnp.where(inside > above[:, None], inside, -jnp.inf)
    # Relative to the likeliest one of the block, so that nothing underflows.
    chance = jnp.exp(inside - jnp.max(inside, axis=-1, keepdims=True))
    token = jnp.argmax(chance / waits[:, count:], axis=-1).astype(jnp.int32)
    return block * width + token


def _waits(bits: UInt32[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Exponential times of rate 1, in (0, 17]; small ones, which win, are the exact ones."""
    uniform = bits.astype(jnp.float32) * 2.0**-32 + _SMALLEST
    # Rounding may give 1, whose time would be infinite.
    return -jnp.log1p(-jnp.minimum(uniform, 1 - 2.0**-24))
