"""Prefill and one decoding step of Qwen3 with a key-value cache that is written in place."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from pgpo_jax.models._layers import (
    LayerWeights,
    attention_output,
    feed_forward,
    project_qkv,
    rms_norm,
    rotary,
)
from pgpo_jax.models._qwen3 import Qwen3, attention_mask, positions
from pgpo_jax.models._sharding import constrain

# Keys are kept transposed: both products of attention then read their cache along rows.
_KEYS = ("batch", "kv_heads", "head_dim", "length")
_VALUES = ("batch", "kv_heads", "length", "head_dim")
_BLOCKED = -0.7 * float(jnp.finfo(jnp.float32).max)


class Prompt(NamedTuple):
    """What decoding needs of the prompts: kept once per prompt, shared by its samples."""

    keys: tuple[Float[Array, "B K H P"], ...]
    values: tuple[Float[Array, "B K P H"], ...]
    mask: Bool[Array, "B P"]
    length: Int[Array, " B"]

    def taken(self, index: Int[Array, " R"], mesh: Mesh | None) -> Prompt:
        """The prompts at `index`, with repetitions: one of its own for each of R rows."""
        return Prompt(
            tuple(constrain(x[index], _KEYS, mesh) for x in self.keys),
            tuple(constrain(x[index], _VALUES, mesh) for x in self.values),
            self.mask[index],
            self.length[index],
        )


class Cache(NamedTuple):
    """Keys and values of the generated tokens, one pair of arrays per layer, never copied."""

    keys: tuple[Float[Array, "R K H S"], ...]
    values: tuple[Float[Array, "R K S H"], ...]

    def grown(self, slots: int) -> Cache:
        """The same contents with room for `slots` tokens."""
        more = (0, slots - self.values[0].shape[2])
        none = (0, 0)
        return Cache(
            tuple(jnp.pad(x, (none, none, none, more)) for x in self.keys),
            tuple(jnp.pad(x, (none, none, more, none)) for x in self.values),
        )

    def taken(self, index: Int[Array, " S"], mesh: Mesh | None) -> Cache:
        """The rows at `index`."""
        return Cache(
            tuple(constrain(x[index], _KEYS, mesh) for x in self.keys),
            tuple(constrain(x[index], _VALUES, mesh) for x in self.values),
        )


def empty_cache(model: Qwen3, rows: int) -> Cache:
    """A cache without slots.

    Args:
        model: gives shape and dtype.
        rows: sequences to decode.

    Returns:
        The cache, to be `grown`.
    """
    config = model.config
    shape = (rows, config.num_key_value_heads)
    layers = range(config.num_hidden_layers)
    return Cache(
        tuple(jnp.zeros((*shape, config.head_dim, 0), model.dtype) for _ in layers),
        tuple(jnp.zeros((*shape, 0, config.head_dim), model.dtype) for _ in layers),
    )


def prefill(
    model: Qwen3, tokens: Int[Array, "B P"], mask: Bool[Array, "B P"]
) -> tuple[Float[Array, "B D"], Prompt]:
    """Runs the prompts through the model.

    Args:
        model: the model.
        tokens: prompts, padded on either side.
        mask: True at real tokens.

    Returns:
        The final hidden state at each prompt's last real token, and the prompts' keys and values.
    """
    allowed = attention_mask(mask)
    rope = rotary(positions(mask), model.config)

    def layer(x: Array, weights: LayerWeights) -> tuple[Array, tuple[Array, Array]]:
        x, (k, v) = model.block(x, weights, rope, allowed)
        return x, (k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3))

    x, (keys, values) = jax.lax.scan(layer, model.embed(tokens), model.layers.weights())
    last = jnp.max(jnp.where(mask, jnp.arange(mask.shape[1], dtype=jnp.int32), 0), axis=1)
    x = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
    hidden = rms_norm(x, model.final_norm[...], model.config.rms_norm_eps)
    length = jnp.sum(mask, axis=1, dtype=jnp.int32)
    # Cut by layer here: a slice inside the decoding loop would be a copy at every step.
    return hidden, Prompt(tuple(keys), tuple(values), mask, length)


def decode_step(
    model: Qwen3,
    weights: tuple[LayerWeights, ...],
    prompt: Prompt,
    cache: Cache,
    tokens: Int[Array, " R"],
    slot: Int[Array, ""],
) -> tuple[Float[Array, "R D"], Cache]:
    """Feeds one token per row.

    Args:
        model: the model.
        weights: each layer's weights in the compute dtype.
        prompt: what the rows continue; R is a multiple of its B.
        cache: the tokens generated so far.
        tokens: the token to feed; row b * G + g continues prompt b.
        slot: where in the cache it goes: the number of tokens fed before.

    Returns:
        The final hidden states, and the cache with the token in it.
    """
    config = model.config
    samples = tokens.shape[0] // prompt.mask.shape[0]
    rope = rotary(jnp.repeat(prompt.length, samples)[:, None] + slot, config)
    x = model.embed(tokens[:, None])
    filled = jnp.arange(cache.values[0].shape[2], dtype=jnp.int32) <= slot
    keys, values = [], []
    for layer, layer_weights in enumerate(weights):
        q, k, v = project_qkv(x, layer_weights, rope, config)
        k = jax.lax.dynamic_update_slice(
            cache.keys[layer], k.transpose(0, 2, 3, 1), (0, 0, 0, slot)
        )
        v = jax.lax.dynamic_update_slice(
            cache.values[layer], v.transpose(0, 2, 1, 3), (0, 0, slot, 0)
        )
        keys.append(constrain(k, _KEYS, model.mesh))
        values.append(constrain(v, _VALUES, model.mesh))
        heads = _attend(
            q[:, 0],
            (prompt.keys[layer], prompt.values[layer], prompt.mask),
            (keys[-1], values[-1], filled),
        )
        x = x + attention_output(heads[:, None], layer_weights)
        x = x + feed_forward(x, layer_weights, config)
    hidden = rms_norm(x[:, 0], model.final_norm[...], config.rms_norm_eps)
    return hidden, Cache(tuple(keys), tuple(values))


def _attend(
    q: Float[Array, "R N H"],
    prompt: tuple[Float[Array, "B K H P"], Float[Array, "B K P H"], Bool[Array, "B P"]],
    own: tuple[Float[Array, "R K H S"], Float[Array, "R K S H"], Bool[Array, " S"]],
) -> Float[Array, "R N H"]:
    """Attention over the prompt, read once for all its samples, and the row's own tokens."""
    prompt_keys, prompt_values, prompt_mask = prompt
    own_keys, own_values, own_mask = own
    count, heads, width, length = prompt_keys.shape
    rows = q.shape[0]
    samples = rows // count

    def by_prompt(x: Array) -> Array:
        """[B * G, K, rep, ...] -> [B, K, G * rep, ...]: samples are more queries of one prompt."""
        split = x.reshape(count, samples, heads, -1, x.shape[-1]).swapaxes(1, 2)
        return split.reshape(count, heads, -1, x.shape[-1])

    def by_row(x: Array) -> Array:
        split = x.reshape(count, heads, samples, -1, x.shape[-1]).swapaxes(1, 2)
        return split.reshape(rows, heads, -1, x.shape[-1])

    q = (q * jnp.asarray(width**-0.5, q.dtype)).reshape(rows, heads, -1, width)
    theirs = _product("bkqh,bkhp->bkqp", by_prompt(q), prompt_keys)
    theirs = jnp.where(prompt_mask[:, None, None, :], theirs, _BLOCKED)
    mine = jnp.where(own_mask, _product("rkqh,rkhs->rkqs", q, own_keys), _BLOCKED)
    scores = jnp.concatenate([by_row(theirs), mine], axis=-1)
    weights = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
    out = by_row(_product("bkqp,bkph->bkqh", by_prompt(weights[..., :length]), prompt_values))
    out = out + _product("rkqs,rksh->rkqh", weights[..., length:], own_values)
    return out.astype(q.dtype).reshape(rows, -1, width)


def _product(spec: str, left: Array, right: Array) -> Array:
    return jnp.einsum(spec, left, right, preferred_element_type=jnp.float32)
