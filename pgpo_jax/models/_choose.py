"""Draws one token per row from logits: from all, from the top k, or from a nucleus."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from pgpo_jax.models._race import Blocks, bits_of_a_race, in_blocks, race

# Words that seed the later rounds of a filtered draw.
_SEED_WORDS = 2


def bits_of_a_draw(vocabulary: int) -> int:
    """How many random words of 32 bits `draw` needs for a row."""
    return bits_of_a_race(vocabulary) + _SEED_WORDS


class Drawn(NamedTuple):
    """What `draw` gives."""

    token: Int[Array, " R"]
    logprob: Float[Array, " R"]
    """In nats, under the distribution before the filters."""


def draw(
    logits: Float[Array, "R V"],
    bits: UInt32[Array, "R W"],
    *,
    top_k: int | None = None,
    top_p: float | Float[Array, ""] | None = None,
) -> Drawn:
    """Draws a token of each row by `race`, and tells its log-probability.

    A filter needs no threshold. A token is among the k likeliest if fewer than k are likelier, and
    in the nucleus if those that are likelier have less than its mass. A token that is not is
    thrown away, and the next one is drawn among those that are likelier than it, which still hold
    all that the filter keeps. So what is kept has its probabilities given that it is kept.

    Args:
        logits: not necessarily normalised; -inf is never drawn, and one per row is finite.
        bits: random, W = `bits_of_a_draw(V)` words per row.
        top_k: how many of the likeliest to keep, at least 1, and with them those that are exactly
            as likely as the last one; None keeps all.
        top_p: the mass of the nucleus in (0, 1], taken of what `top_k` keeps; None keeps all.

    Returns:
        Token ids, int32, and their log-probabilities.
    """
    whole = in_blocks(logits)
    sums = whole.sums()
    if top_k is None and top_p is None:
        token = race(whole, sums, bits[:, :-_SEED_WORDS])
    elif top_k is None or top_p is None:
        token = _draw_within(whole, sums, bits, top_k, top_p)
    else:
        kept = in_blocks(likeliest(logits, top_k))
        token = _draw_within(kept, kept.sums(), bits, None, top_p)
    return _told(whole, token)


def greedy(logits: Float[Array, "R V"]) -> Drawn:
    """The likeliest token of each row, the lowest id among equals, and its log-probability.

    Args:
        logits: not necessarily normalised.

    Returns:
        Token ids, int32, and their log-probabilities.
    """
    return _told(in_blocks(logits), jnp.argmax(logits, axis=-1).astype(jnp.int32))


def _told(blocks: Blocks, token: Int[Array, " R"]) -> Drawn:
    return Drawn(token, blocks.at(token) - jnp.log(jnp.sum(blocks.sums(), axis=-1)))


def _draw_within(
    blocks: Blocks,
    sums: Float[Array, "R n"],
    bits: UInt32[Array, "R W"],
    top_k: int | None,
    top_p: float | Float[Array, ""] | None,
) -> Int[Array, " R"]:
    limits = (top_k, None if top_p is None else _limit(top_p, jnp.sum(sums, axis=-1)))
    words = bits.shape[1] - _SEED_WORDS
    keys = jax.random.wrap_key_data(bits[:, words:], impl="threefry2x32")

    def again(state: tuple[Array, ...]) -> tuple[Array, ...]:
        number, token, outside, likelier = state
        fresh = jax.vmap(
            lambda key: jax.random.bits(jax.random.fold_in(key, number), (words,), jnp.uint32)
        )(keys)
        other = race(blocks, likelier, fresh, blocks.at(token))
        token = jnp.where(outside, other, token)
        return number + 1, token, *_outside(blocks, token, *limits)

    token = race(blocks, sums, bits[:, :words])
    start = (jnp.int32(0), token, *_outside(blocks, token, *limits))
    return jax.lax.while_loop(lambda state: jnp.any(state[2]), again, start)[1]


def _outside(
    blocks: Blocks,
    token: Int[Array, " R"],
    most: int | None,
    mass: Float[Array, " R"] | None,
) -> tuple[Bool[Array, " R"], Float[Array, "R n"]]:
    """Whether a filter drops the token, and the sums of the tokens that are likelier."""
    likelier = blocks.logits > blocks.at(token)[:, None, None]
    sums = jnp.sum(jnp.where(likelier, blocks.chance, 0.0), axis=-1)
    # Comparisons that are false for NaN, so that every draw ends.
    if mass is not None:
        return jnp.sum(sums, axis=-1) >= mass, sums
    assert most is not None, "a filter has one of the two limits"
    return jnp.sum(likelier, axis=(1, 2), dtype=jnp.int32) >= most, sums


def _limit(top_p: float | Float[Array, ""], total: Float[Array, " R"]) -> Float[Array, " R"]:
    # A sum that rounding brings to the total would drop what is rare although all is asked for.
    return jnp.where(jnp.asarray(top_p) < 1, top_p * total, jnp.inf)


def likeliest(logits: Float[Array, "R V"], k: int) -> Float[Array, "R V"]:
    """The k likeliest tokens; the others are at -inf.

    The threshold is found by bisection on the bits of the distances to the largest logit, because
    non-negative floats are ordered like their bits. This takes 31 sums over the vocabulary instead
    of a sort.

    Args:
        logits: not necessarily normalised.
        k: how many to keep, in [1, V]. Tokens exactly as likely as the k-th are kept too.

    Returns:
        `logits`, filtered, not renormalised.
    """
    distance = jnp.max(logits, axis=-1, keepdims=True) - logits
    bits = jax.lax.bitcast_convert_type(distance, jnp.int32)

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        # At least k tokens are at or below `high`, and fewer than k at or below `low`.
        low, high = bounds
        middle = low + (high - low) // 2
        enough = jnp.sum(bits <= middle[:, None], axis=-1, dtype=jnp.int32) >= k
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    low = jnp.full(logits.shape[0], -1, jnp.int32)
    infinite = jax.lax.bitcast_convert_type(jnp.float32(jnp.inf), jnp.int32)
    _, high = jax.lax.fori_loop(0, 31, halve, (low, low + 1 + infinite))
    return jnp.where(bits <= high[:, None], logits, -jnp.inf)
