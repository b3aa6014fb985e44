"""The precision in which the sensitive products and sums are taken."""

import jax
import jax.numpy as jnp


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """The wider of `dtype` and float32; `dtype` itself if it is float64 or complex."""
    wide = jnp.issubdtype(dtype, jnp.inexact) and dtype.itemsize >= 4
    return dtype if wide else jnp.dtype(jnp.float32)


def wider(a: jnp.dtype, b: jnp.dtype) -> jnp.dtype:
    """The float dtype with more bits, or the first if both have as many."""
    return a if a.itemsize >= b.itemsize else b


def product_precision(dtype: jnp.dtype) -> jax.lax.Precision | None:
    """The precision of a product with operands of this dtype: float32 means float32 everywhere.

    By default a TPU rounds float32 operands to bfloat16, and an NVIDIA GPU may round them to TF32.
    Neither rounds narrower operands, so these keep the default. A CPU never rounds.

    Args:
        dtype: dtype of both operands, before any widening.

    Returns:
        The highest precision for float32 and wider, else `None`: JAX's default.
    """
    return jax.lax.Precision.HIGHEST if dtype.itemsize >= 4 else None
