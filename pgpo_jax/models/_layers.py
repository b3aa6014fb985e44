"""The parts of a decoder block as pure functions, shared by training, prefill and decoding."""

from __future__ import annotations

import contextlib
import operator as op
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pgpo_jax._precision import product_precision
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models._config import DecoderConfig


class LayerWeights(NamedTuple):
    """The weights of one layer, or of all layers with a leading layer axis.

    Kernels are [in, out]. A kernel may be an `AdaptedKernel` or, while decoding, a `HalvedKernel`.
    Weights that a family does not have are None.

    Added in version 0.2.0.
    """

    input_norm: Array
    q_proj: Array
    k_proj: Array
    v_proj: Array
    q_norm: Array | None
    k_norm: Array | None
    o_proj: Array
    post_norm: Array
    gate_proj: Array
    up_proj: Array
    down_proj: Array
    q_bias: Array | None = None
    k_bias: Array | None = None
    v_bias: Array | None = None

    def astype(self, dtype: Any) -> LayerWeights:
        """The weights cast to `dtype`."""
        return self.mapped(lambda weight: weight.astype(dtype))

    def by_layer(self, depth: int) -> tuple[LayerWeights, ...]:
        """The weights of each of `depth` stacked layers."""
        return tuple(self.mapped(op.itemgetter(layer)) for layer in range(depth))

    def mapped(self, change: Callable[[Any], Any]) -> LayerWeights:
        """Apply a function to every weight that is not None."""
        parts: list[Any] = [None if weight is None else change(weight) for weight in self]
        return LayerWeights(*parts)


def bound_to_layer(weights: LayerWeights) -> LayerWeights:
    """The same weights, in a form that keeps their cast inside the loop over the layers.

    XLA for TPU casts the weights of all layers before the loop and holds all copies until the last
    use. It cannot do so if the weights are multiplied by a factor that is computed in the loop.

    Args:
        weights: one layer's weights.

    Returns:
        Each weight times one. All are NaN if the layer's first weight is NaN.
    """
    first = jax.lax.stop_gradient(weights.input_norm[0])
    one = jnp.where(first == first, jnp.ones_like(first), first)

    def times_one(weight: Any) -> Any:
        return jax.tree.map(lambda part: part * one.astype(part.dtype), weight)

    return weights.mapped(times_one)


def layer_fields(config: DecoderConfig) -> tuple[str, ...]:
    """The names of the weights that a layer of this shape has.

    Args:
        config: the shape.

    Returns:
        Fields of `LayerWeights`. All other fields are None.
    """
    absent = set() if config.qk_norm else {"q_norm", "k_norm"}
    absent |= set() if config.qkv_bias else {"q_bias", "k_bias", "v_bias"}
    return tuple(name for name in LayerWeights._fields if name not in absent)


class Rotary(NamedTuple):
    """Cosines and sines of the rotary angles, float32."""

    cos: Float[Array, "B T half"]
    sin: Float[Array, "B T half"]


def rotary(positions: Int[Array, "B T"], config: DecoderConfig) -> Rotary:
    """Rotary angles: position times theta^(-2i/head_dim) (RoPE, arXiv:2104.09864), scaled if asked.

    Args:
        positions: position of each token.
        config: config with `head_dim`, `rope_theta` and `rope_scaling`.

    Returns:
        Cosines and sines for half a head.
    """
    exponent = jnp.arange(0, config.head_dim, 2, dtype=jnp.float32) / config.head_dim
    turned = positions.astype(jnp.float32)[..., None]
    frequencies = 1.0 / config.rope_theta**exponent
    if config.rope_scaling is not None:
        frequencies = config.rope_scaling.scaled(frequencies)
    angles = turned * frequencies
    return Rotary(jnp.cos(angles), jnp.sin(angles))


def rotate(x: Float[Array, "B T heads H"], rope: Rotary) -> Float[Array, "B T heads H"]:
    """Rotate each pair (i, i + H/2) by its angle, in float32 (Hugging Face's "half" layout).

    Args:
        x: queries or keys.
        rope: the angles.

    Returns:
        The rotated heads, in the dtype of `x`.
    """
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = rope.cos[:, :, None, :], rope.sin[:, :, None, :]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def rms_norm(
    x: Float[Array, "*B D"], scale: Float[Array, " D"], eps: float
) -> Float[Array, "*B D"]:
    """x / sqrt(mean(x^2) + eps) * scale, the quotient in float32.

    Args:
        x: activations.
        scale: the learned gain.
        eps: added to the mean square.

    Returns:
        The normed activations, in the dtype of `x`.
    """
    wide = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return (wide * inverse).astype(x.dtype) * scale.astype(x.dtype)


def project_qkv(
    x: Float[Array, "B T D"], weights: LayerWeights, rope: Rotary, config: DecoderConfig
) -> tuple[Float[Array, "B T N H"], Float[Array, "B T K H"], Float[Array, "B T K H"]]:
    """Queries, keys and values of a layer, with biases and norms if it has them, then rotated.

    Args:
        x: residual stream.
        weights: one layer's weights in the compute dtype.
        rope: the angles.
        config: the shape.

    Returns:
        Queries, keys (both rotated) and values.
    """
    normed = rms_norm(x, weights.input_norm, config.rms_norm_eps)

    def heads(kernel: Any, bias: Array | None, norm: Array | None) -> Array:
        projected = normed @ kernel if bias is None else normed @ kernel + bias
        split = projected.reshape(*x.shape[:2], -1, config.head_dim)
        return split if norm is None else rms_norm(split, norm, config.rms_norm_eps)

    q = heads(weights.q_proj, weights.q_bias, weights.q_norm)
    k = heads(weights.k_proj, weights.k_bias, weights.k_norm)
    return rotate(q, rope), rotate(k, rope), heads(weights.v_proj, weights.v_bias, None)


def check_attention(implementation: str, dtype: Any) -> None:
    """Refuse an unknown attention, or one that cannot compute in this dtype.

    Args:
        implementation: implementation of `attend`.
        dtype: dtype of queries, keys and values.

    Raises:
        ValueError: the attention is refused. The message names the rule and the value.

    Added in version 0.2.0.
    """
    if implementation not in ("xla", "chunked", "cudnn"):
        raise PGPOValueError(
            f"attention must be 'xla', 'chunked' or 'cudnn', got {implementation!r}."
        )
    name = jnp.dtype(dtype).name
    if implementation == "cudnn" and name not in ("bfloat16", "float16"):
        raise PGPOValueError(
            f"dtype must be bfloat16 or float16 with attention 'cudnn', got {name}."
        )


def attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    allowed: Bool[Array, "B 1 T S"] | FirstTokens,
    implementation: str = "xla",
) -> Float[Array, "B T N H"]:
    """softmax(q k^T / sqrt(H)) v with grouped queries, over the allowed keys.

    The softmax and all sums are float32. Unless `implementation` is "cudnn", the precision of the
    two products is:

    | inputs | CPU | NVIDIA GPU | TPU |
    |---|---|---|---|
    | float32 | float32 | float32 | float32 |
    | 16-bit | float32 | JAX's default (may be TF32) | JAX's default (bfloat16) |

    The default does not round bfloat16 queries, keys and values. It rounds the results of the
    softmax and of gradients: the weights of the values, and cotangents.

    Args:
        q: queries.
        k: keys; each serves N/K queries.
        v: values.
        allowed: True where the query may see the key. For "cudnn", the number of real tokens that
            each row begins with; the mask is then causal.
        implementation: "xla"; "chunked", the same for some queries at a time; or "cudnn", whose
            products take 16-bit inputs directly.

    Returns:
        One value per query head, in the dtype of `q`.
    """
    dtype = q.dtype
    if isinstance(allowed, FirstTokens):
        return causal_attention(q, k, v, allowed, "cudnn")
    if implementation == "cudnn":
        even = to_even_lengths(q, k, v, allowed)
        heads = jax.nn.dot_product_attention(*even[:3], mask=even[3], implementation="cudnn")
        return heads[:, : q.shape[1]]
    # Mixed products cannot be used here. The gradient of jax.nn's 16-bit path promotes implicitly,
    # which strict dtype promotion forbids.
    q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
    # The function of jax.nn has no argument for the precision. Its gradient inherits this one.
    exact = product_precision(dtype) is not None
    with jax.default_matmul_precision("highest") if exact else contextlib.nullcontext():
        if implementation == "chunked":
            return attend_in_chunks(q, k, v, allowed).astype(dtype)
        heads = jax.nn.dot_product_attention(q, k, v, mask=allowed, implementation="xla")
    return heads.astype(dtype)


class FirstTokens(NamedTuple):
    """A causal mask for rows that begin with their real tokens.

    Attributes:
        number: number of real tokens of each row, at least one.
    """

    number: Int[Array, " B"]


def causal_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    tokens: FirstTokens,
    implementation: Literal["xla", "cudnn"],
) -> Float[Array, "B T N H"]:
    """Flash attention: no array of [T, T], and masked keys are skipped.

    Args:
        q: queries.
        k: keys; each serves N/K queries.
        v: values.
        tokens: number of real tokens that each row begins with.
        implementation: implementation of `jax.nn.dot_product_attention`.

    Returns:
        One value per query head. It is meaningless after a row's real tokens.
    """
    return jax.nn.dot_product_attention(
        q,
        k,
        v,
        is_causal=True,
        query_seq_lengths=tokens.number,
        key_value_seq_lengths=tokens.number,
        implementation=implementation,
    )


def to_even_lengths(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    allowed: Bool[Array, "B 1 T S"],
) -> tuple[Array, Array, Array, Array]:
    """Pad odd lengths by one query or key that has no effect.

    The backward pass of cuDNN needs even lengths with a mask. A prompt and a response of even
    lengths have an odd number of positions, 2 n - 1.

    Args:
        q: queries.
        k: keys.
        v: values.
        allowed: True where the query may see the key.

    Returns:
        The four arrays with even T and S.
    """

    def even(x: Array, *axes: int) -> Array:
        return jnp.pad(x, [(0, x.shape[i] % 2 if i in axes else 0) for i in range(x.ndim)])

    return even(q, 1), even(k, 1), even(v, 1), even(allowed, 2, 3)


def attend_in_chunks(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    allowed: Bool[Array, "B 1 T S"],
    chunk: int = 256,
) -> Float[Array, "B T N H"]:
    """Attention of `chunk` queries at a time, recomputed in the backward pass.

    No array is larger than [B, N, chunk, S]. All scores at once would be [B, N, T, S].

    Args:
        q: queries, float32.
        k: keys.
        v: values.
        allowed: True where the query may see the key.
        chunk: number of queries at a time.

    Returns:
        One value per query head.
    """
    length = q.shape[1]
    number = -(-length // chunk)
    missing = number * chunk - length

    def split(x: Array, axis: int) -> Array:
        pad = [(0, missing if i == axis else 0) for i in range(x.ndim)]
        x = jnp.pad(x, pad).reshape(*x.shape[:axis], number, chunk, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis, 0)

    @jax.checkpoint
    def some(queries: Array, allowed: Array) -> Array:
        return jax.nn.dot_product_attention(queries, k, v, mask=allowed, implementation="xla")

    chunks = jax.lax.map(lambda x: some(*x), (split(q, 1), split(allowed, 2)))
    heads = jnp.moveaxis(chunks, 0, 1).reshape(q.shape[0], number * chunk, *q.shape[2:])
    return heads[:, :length]


def attention_output(
    heads: Float[Array, "B T N H"], weights: LayerWeights
) -> Float[Array, "B T D"]:
    """Join the heads and project them back to the residual stream.

    Args:
        heads: output of each head.
        weights: one layer's weights in the compute dtype.

    Returns:
        The output of the attention, to be added to the residual stream.
    """
    return heads.reshape(*heads.shape[:2], -1) @ weights.o_proj
