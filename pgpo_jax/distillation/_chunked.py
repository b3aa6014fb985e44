"""A loss on logits, computed from hidden states one chunk of tokens at a time.

Such a loss is large because of the vocabulary: it needs several arrays [B, T, V] in float32. Here
one chunk of tokens at a time goes through the head. The loss is a sum over tokens, so the gradient
with respect to the logits of a chunk is computed while they exist. Neither pass is computed twice.
No array over tokens and vocabulary is kept longer than its chunk.
"""

import functools as ft
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from pgpo_jax._precision import at_least_float32, product_precision, wider
from pgpo_jax.distillation._chunks import ChunkLayout
from pgpo_jax.distillation._head_sharding import HeadSharding

Statistics = dict[str, Array]


def head_logits(
    hidden: Float[Array, "rows length D"],
    head: Float[Array, "D V"],
    sharding: HeadSharding | None = None,
) -> Float[Array, "rows length V"]:
    """Logits, accumulated in at least float32 for inputs of any dtype.

    If one input is float32, the product is in float32 on every platform.
    """
    dtype = wider(hidden.dtype, head.dtype)
    logits = jnp.einsum(
        "...d,dv->...v",
        hidden.astype(dtype) if sharding is None else sharding.gathered(hidden.astype(dtype)),
        head.astype(dtype),
        precision=product_precision(dtype),
        preferred_element_type=at_least_float32(dtype),
    )
    return logits if sharding is None else sharding.logits(logits)


def _head_gradients(
    logit_gradient: Float[Array, "rows length V"],
    hidden: Float[Array, "rows length D"],
    head: Float[Array, "D V"],
    sharding: HeadSharding | None,
) -> tuple[Float[Array, "rows length D"], Float[Array, "D V"]]:
    """The transpose of `head_logits`, accumulated in float32 or wider.

    The head's gradient keeps this dtype.
    """
    dtype = wider(hidden.dtype, head.dtype)
    wide = at_least_float32(dtype)
    # The products have the dtype of the forward product, so half-precision units are used.
    g = logit_gradient.astype(dtype)
    product = ft.partial(
        jnp.einsum, precision=product_precision(dtype), preferred_element_type=wide
    )
    to_hidden = product("...v,dv->...d", g, head.astype(dtype)).astype(hidden.dtype)
    hidden = hidden.astype(dtype)
    if sharding is None:
        return to_hidden, product("rld,rlv->dv", hidden, g)
    to_head = product("rld,rlv->dv", sharding.gathered(hidden), g)
    return sharding.scattered(to_hidden), sharding.head(to_head)


def chunked_loss(
    on_logits: Callable[[Array, dict, Any], tuple[Array, Statistics]],
    layout: ChunkLayout,
    dtype: jnp.dtype,
    sharding: HeadSharding | None = None,
) -> Callable[[Array, Array, dict, Any], tuple[Float[Array, ""], Statistics]]:
    """The sum over chunks of a loss on logits, and its statistics by chunk.

    Args:
        on_logits: function of (logits of a chunk, arrays of the chunk, heads) that returns the
            chunk's part of the loss and a dictionary of numbers per token.
        layout: how the tokens are cut into chunks.
        dtype: dtype of the loss.
        sharding: how the products with the head are cut over a mesh; `None` leaves this to XLA.

    Returns:
        A function of (hidden, head, fixed, heads) that returns the loss and the statistics, stacked
        by chunk. `fixed` is a dictionary of arrays per token, cut like the hidden states. `heads`
        is passed on whole. Only the loss has a gradient, and only to the hidden states and the
        head.
    """

    @jax.custom_vjp
    def scanned(student_hidden, student_head, fixed, heads):
        def body(total, chunk):
            student_logits = head_logits(chunk["student"], student_head, sharding)
            loss, statistics = on_logits(student_logits, chunk, heads)
            return total + loss, statistics

        chunks = jax.tree.map(layout.split, {"student": student_hidden, **fixed})
        return jax.lax.scan(body, jnp.zeros([], dtype), chunks)

    def forward(student_hidden, student_head, fixed, heads):
        wanted = (student_hidden.perturbed, student_head.perturbed)
        student_hidden, student_head = student_hidden.value, student_head.value
        fixed, heads = jax.tree.map(lambda x: x.value, (fixed, heads))

        def body(carry, chunk):
            total, to_head_sum = carry
            student_logits = head_logits(chunk["student"], student_head, sharding)
            (loss, statistics), logit_gradient = jax.value_and_grad(on_logits, has_aux=True)(
                student_logits, chunk, heads
            )
            to_hidden, to_head = _head_gradients(
                logit_gradient, chunk["student"], student_head, sharding
            )
            carry = total + loss, to_head_sum + to_head if wanted[1] else None
            return carry, (statistics, to_hidden if wanted[0] else None)

        wide = at_least_float32(wider(student_hidden.dtype, student_head.dtype))
        start = jnp.zeros(student_head.shape, wide)
        start = start if sharding is None else sharding.head(start)
        chunks = jax.tree.map(layout.split, {"student": student_hidden, **fixed})
        (total, to_head), (statistics, to_hidden) = jax.lax.scan(
            body, (jnp.zeros([], dtype), start if wanted[1] else None), chunks
        )
        if to_hidden is not None:
            to_hidden = layout.join(to_hidden)
        if to_head is not None:
            to_head = to_head.astype(student_head.dtype)
        return (total, statistics), (to_hidden, to_head)

    def backward(residuals, cotangents):
        cotangent = cotangents[0]
        if isinstance(cotangent, SymbolicZero):
            return None, None, None, None
        scaled = jax.tree.map(lambda g: g * cotangent.astype(g.dtype), residuals)
        return *scaled, None, None

    scanned.defvjp(forward, backward, symbolic_zeros=True)
    return scanned
