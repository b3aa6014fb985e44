"""Prefill and one decoding step of Qwen3."""

from __future__ import annotations

import functools as ft

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pgpo_jax._precision import product_precision
from pgpo_jax.models._cache import Cache, NewToken, Prompt, cache_dtype
from pgpo_jax.models._decoder import Qwen3, attention_mask, positions
from pgpo_jax.models._feed_forward import feed_forward
from pgpo_jax.models._layers import (
    LayerWeights,
    Rotary,
    attention_output,
    project_qkv,
    rms_norm,
    rotary,
)
from pgpo_jax.models._rows import Rows
from pgpo_jax.models._step_weights import StepWeights

_BLOCKED = -0.7 * float(jnp.finfo(jnp.float32).max)


def prefill(
    model: Qwen3, tokens: Int[Array, "B P"], mask: Bool[Array, "B P"]
) -> tuple[Float[Array, "B D"], Prompt]:
    """Run the prompts through the model.

    Args:
        model: the model.
        tokens: prompts, padded on either side.
        mask: True at real tokens.

    Returns:
        The final hidden state at each prompt's last real token, and the prompts' keys and values.
    """
    allowed = attention_mask(mask)
    rope = rotary(positions(mask), model.config)
    kept = cache_dtype(model.dtype, model.mesh)

    def layer(x: Array, weights: LayerWeights) -> tuple[Array, tuple[Array, Array]]:
        x, (k, v) = model.block(x, weights, rope, allowed)
        k, v = k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)
        return x, (k.astype(kept), v.astype(kept))

    x, (keys, values) = jax.lax.scan(layer, model.embed(tokens), model.layers.weights())
    last = jnp.max(jnp.where(mask, jnp.arange(mask.shape[1], dtype=jnp.int32), 0), axis=1)
    x = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
    hidden = rms_norm(x, model.final_norm[...], model.config.rms_norm_eps)
    length = jnp.sum(mask, axis=1, dtype=jnp.int32)
    # The arrays are cut by layer here. A slice inside the decoding loop would copy them at every
    # step.
    return hidden, Prompt(tuple(keys), tuple(values), mask, length)


def decode_step(
    model: Qwen3,
    weights: StepWeights,
    prompt: Prompt,
    cache: Cache,
    tokens: Int[Array, " R"],
    rows: Rows,
) -> tuple[Float[Array, "R D"], NewToken]:
    """Feed one token per row to the model.

    Args:
        model: the model.
        weights: weights of a step, see `step_weights`.
        prompt: the prompts that the rows continue.
        cache: keys and values of the tokens that were fed before.
        tokens: the token of each row to feed.
        rows: the prompt that each row continues, and its own slots of the cache.

    Returns:
        The final hidden states, and the keys and values to write into the cache.
    """
    config = model.config
    position = rows.position(prompt, tokens.shape[0])
    rope = Rotary(*(table[0, position] for table in weights.rope))
    x = weights.embed(model, tokens[:, None])
    # The mask is added to the scores. Selecting one of two values for each score would cost more.
    filled = jnp.where(rows.readable(cache), 0.0, _BLOCKED)[:, None, None]
    theirs = jnp.where(prompt.mask, 0.0, _BLOCKED)[:, None, None]
    keys, values = [], []
    for layer, layer_weights in enumerate(weights.layers):
        q, k, v = project_qkv(x, layer_weights, rope, config)
        keys.append(k[:, 0])
        values.append(v[:, 0])
        heads = _attend(
            q[:, 0],
            (prompt.keys[layer], prompt.values[layer], theirs),
            (cache.keys[layer], cache.values[layer], filled),
            (keys[-1], values[-1]),
            rows,
        )
        x = x + attention_output(heads[:, None], layer_weights)
        x = x + feed_forward(x, layer_weights, config)
    hidden = rms_norm(x[:, 0], model.final_norm[...], config.rms_norm_eps)
    return hidden, NewToken(tuple(keys), tuple(values))


def _attend(
    q: Float[Array, "R N H"],
    prompt: tuple[Float[Array, "B K H P"], Float[Array, "B K P H"], Float[Array, "B 1 1 P"]],
    own: tuple[Float[Array, "R K H L"], Float[Array, "R K L H"], Float[Array, "R 1 1 L"]],
    new: tuple[Float[Array, "R K H"], Float[Array, "R K H"]],
    place: Rows,
) -> Float[Array, "R N H"]:
    """Attention over the prompt, the row's own tokens and the token that was just fed.

    It is one softmax, whose three parts are never concatenated. The prompt is read once for all its
    samples."""
    prompt_keys, prompt_values, prompt_bias = prompt
    own_keys, own_values, own_bias = own
    count, heads, width, length = prompt_keys.shape
    dtype, rows = q.dtype, q.shape[0]

    q = (q * jnp.asarray(width**-0.5, dtype)).reshape(rows, heads, -1, width)
    q = q.astype(own_keys.dtype)
    new_key, new_value = (x[:, :, None].astype(jnp.float32) for x in new)
    scores = [
        jnp.sum(q.astype(jnp.float32) * new_key, axis=-1, keepdims=True),
        _product("rkqh,rkhl->rkql", q, own_keys) + own_bias,
    ]
    if length:
        theirs = _product("bkqh,bkhp->bkqp", place.by_prompt(q, count), prompt_keys)
        scores.append(place.by_row(theirs + prompt_bias, rows))
    top = ft.reduce(jnp.maximum, (jnp.max(part, axis=-1, keepdims=True) for part in scores))
    weights = [jnp.exp(part - top) for part in scores]
    total = sum(jnp.sum(part, axis=-1, keepdims=True) for part in weights)
    out = weights[0] * new_value
    out = out + _product("rkql,rklh->rkqh", weights[1].astype(own_values.dtype), own_values)
    if length:
        theirs = place.by_prompt(weights[2].astype(prompt_values.dtype), count)
        out = out + place.by_row(_product("bkqp,bkph->bkqh", theirs, prompt_values), rows)
    return (out / total).astype(dtype).reshape(rows, -1, width)


def _product(spec: str, left: Array, right: Array) -> Array:
    return jnp.einsum(
        spec,
        left,
        right,
        precision=product_precision(right.dtype),
        preferred_element_type=jnp.float32,
    )
