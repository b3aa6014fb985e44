"""Prefill and one decoding step of Qwen3 with a key-value cache that is written in place."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
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

_ROW_CACHE = ("batch", "kv_heads", "length", "head_dim")


class Prompt(NamedTuple):
    """What decoding needs of the prompts: kept once per prompt, shared by its samples."""

    keys: Float[Array, "L B K P H"]
    values: Float[Array, "L B K P H"]
    mask: Bool[Array, "B P"]
    length: Int[Array, " B"]


class Cache(NamedTuple):
    """Keys and values of the generated tokens, one pair of arrays per layer, never copied."""

    keys: tuple[Float[Array, "R K S H"], ...]
    values: tuple[Float[Array, "R K S H"], ...]

    def grown(self, slots: int) -> Cache:
        """The same contents with room for `slots` tokens."""

        def grow(x: Array) -> Array:
            return jnp.pad(x, ((0, 0), (0, 0), (0, slots - x.shape[2]), (0, 0)))

        return Cache(tuple(map(grow, self.keys)), tuple(map(grow, self.values)))


def empty_cache(model: Qwen3, rows: int) -> Cache:
    """A cache without slots.

    Args:
        model: gives shape and dtype.
        rows: sequences to decode.

    Returns:
        The cache, to be `grown`.
    """
    config = model.config
    shape = (rows, config.num_key_value_heads, 0, config.head_dim)
    layers = tuple(jnp.zeros(shape, model.dtype) for _ in range(config.num_hidden_layers))
    return Cache(layers, layers)


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
        return x, (k.swapaxes(1, 2), v.swapaxes(1, 2))

    x, (keys, values) = jax.lax.scan(layer, model.embed(tokens), model.layers.weights())
    last = jnp.max(jnp.where(mask, jnp.arange(mask.shape[1], dtype=jnp.int32), 0), axis=1)
    x = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
    hidden = rms_norm(x, model.final_norm[...], model.config.rms_norm_eps)
    return hidden, Prompt(keys, values, mask, jnp.sum(mask, axis=1, dtype=jnp.int32))


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
    filled = jnp.arange(cache.keys[0].shape[2]) <= slot
    keys, values = [], []
    for layer, layer_weights in enumerate(weights):
        q, k, v = project_qkv(x, layer_weights, rope, config)
        start = (0, 0, slot, 0)
        k = jax.lax.dynamic_update_slice(cache.keys[layer], k.swapaxes(1, 2), start)
        v = jax.lax.dynamic_update_slice(cache.values[layer], v.swapaxes(1, 2), start)
        keys.append(constrain(k, _ROW_CACHE, model.mesh))
        values.append(constrain(v, _ROW_CACHE, model.mesh))
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
    prompt: tuple[Float[Array, "B K P H"], Float[Array, "B K P H"], Bool[Array, "B P"]],
    own: tuple[Float[Array, "R K S H"], Float[Array, "R K S H"], Bool[Array, " S"]],
) -> Float[Array, "R N H"]:
    """Attention over the prompt, read once for all its samples, and the row's own tokens."""
    prompt_keys, prompt_values, prompt_mask = prompt
    own_keys, own_values, own_mask = own
    count, heads, length, width = prompt_keys.shape
    rows = q.shape[0]
    q = (q * jnp.asarray(width**-0.5, q.dtype)).reshape(rows, heads, -1, width)
    # [B, K, G * rep, H]: the samples of a prompt are so many more queries of its keys.
    shared = q.reshape(count, rows // count, heads, -1, width).swapaxes(1, 2)
    grouped = shared.shape
    scores = _product("bkqh,bkph->bkqp", shared.reshape(count, heads, -1, width), prompt_keys)
    scores = jnp.where(prompt_mask[:, None, None, :], scores, _BLOCKED)
    scores = scores.reshape(*grouped[:-1], length).swapaxes(1, 2).reshape(rows, heads, -1, length)
    mine = jnp.where(own_mask, _product("rkqh,rksh->rkqs", q, own_keys), _BLOCKED)
    chance = jax.nn.softmax(jnp.concatenate([scores, mine], axis=-1), axis=-1).astype(q.dtype)
    theirs = chance[..., :length].reshape(count, rows // count, heads, -1, length).swapaxes(1, 2)
    out = _product("bkqp,bkph->bkqh", theirs.reshape(count, heads, -1, length), prompt_values)
    out = out.reshape(grouped).swapaxes(1, 2).reshape(rows, heads, -1, width)
    out = out + _product("rkqs,rksh->rkqh", chance[..., length:], own_values)
    return out.astype(q.dtype).reshape(rows, -1, width)


_BLOCKED = -0.7 * float(jnp.finfo(jnp.float32).max)


def _product(spec: str, left: Array, right: Array) -> Array:
    return jnp.einsum(spec, left, right, preferred_element_type=jnp.float32)
