"""The feed-forward part of a block, with a fixed order in its backward pass."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Float

from pgpo_jax.models._config import DecoderConfig
from pgpo_jax.models._layers import LayerWeights, rms_norm


def feed_forward(
    x: Float[Array, "B T D"], weights: LayerWeights, config: DecoderConfig
) -> Float[Array, "B T D"]:
    """SwiGLU: (silu(x W_gate) * x W_up) W_down, on the normed stream.

    Args:
        x: residual stream.
        weights: one layer's weights in the compute dtype.
        config: config with `rms_norm_eps`.

    Returns:
        The output of the feed-forward part, to be added to the residual stream.
    """
    normed = rms_norm(x, weights.post_norm, config.rms_norm_eps)
    gate, up, down = weights.gate_proj, weights.up_proj, weights.down_proj
    if all(weight is None or isinstance(weight, jax.Array) for weight in weights):
        return swiglu(normed.reshape(-1, x.shape[-1]), gate, up, down).reshape(x.shape)
    # If one kernel has an adapter, the others are frozen. A barrier would keep their gradients,
    # which are not needed.
    return jax.nn.silu(normed @ gate) * (normed @ up) @ down


@jax.custom_vjp
def swiglu(
    x: Float[Array, "M D"],
    gate: Float[Array, "D F"],
    up: Float[Array, "D F"],
    down: Float[Array, "F D"],
) -> Float[Array, "M D"]:
    """(silu(x gate) * (x up)) down, with a backward pass that needs little memory.

    The arrays of width F are the largest of a layer. Compilers hold all six of the backward pass at
    once. Here the order is fixed, so that at most three are held.

    Args:
        x: input rows.
        gate: kernel of the gate.
        up: kernel of the gated values.
        down: kernel back to the width of the rows.

    Returns:
        As many rows.
    """
    return jax.nn.silu(x @ gate) * (x @ up) @ down


def _forward(x: Array, gate: Array, up: Array, down: Array) -> tuple[Array, Any]:
    inner, outer = x @ gate, x @ up
    return jax.nn.silu(inner) * outer @ down, (x, gate, up, down, inner, outer)


def _backward(kept: Any, cotangent: Array) -> tuple[Array, Array, Array, Array]:
    x, gate, up, down, inner, outer = kept
    after = jax.lax.optimization_barrier
    to_down = _to_kernel(jax.nn.silu(inner) * outer, cotangent)
    inner, outer, cotangent, to_down = after((inner, outer, cotangent, to_down))
    to_gated = _to_rows(cotangent, down)
    # From here on `to_silu` replaces `outer`.
    to_silu, to_gated = after((to_gated * outer, to_gated))
    to_outer = to_gated * jax.nn.silu(inner)
    to_x, to_up = _to_rows(to_outer, up), _to_kernel(x, to_outer)
    inner, to_silu, to_x, to_up = after((inner, to_silu, to_x, to_up))
    (to_inner,) = jax.vjp(jax.nn.silu, inner)[1](to_silu)
    return to_x + _to_rows(to_inner, gate), _to_kernel(x, to_inner), to_up, to_down


def _to_rows(cotangent: Array, kernel: Array) -> Array:
    # The kernel is not transposed here. A mesh would gather the transposed kernel in addition to
    # the kernel.
    return jax.lax.dot_general(cotangent, kernel, (((1,), (1,)), ((), ())))


def _to_kernel(rows: Array, cotangent: Array) -> Array:
    return jax.lax.dot_general(rows, cotangent, (((0,), (0,)), ((), ())))


swiglu.defvjp(_forward, _backward)
