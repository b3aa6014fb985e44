"""The precision in which the sensitive products and sums are taken."""

import jax
import jax.numpy as jnp


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """float32, unless `dtype` is as wide or wider (float64, complex): then `dtype`."""
    wide = jnp.issubdtype(dtype, jnp.inexact) and dtype.itemsize >= 4
    return dtype if wide else jnp.dtype(jnp.float32)


def wider(a: jnp.dtype, b: jnp.dtype) -> jnp.dtype:
    """The one of two float dtypes that has more bits (the first, if they have equally many)."""
    return a if a.itemsize >= b.itemsize else b


def product_precision(dtype: jnp.dtype) -> jax.lax.Precision | None:
    """Of a product whose operands have this dtype, so that float32 means float32 everywhere.

    By default a TPU rounds float32 operands to bfloat16, and an NVIDIA GPU may round them to
    TF32. Narrow operands are not rounded by either, so they keep the default. A CPU never rounds.

    Args:
        dtype: of both operands, or what they were before they were widened.

    Returns:
        The highest precision for float32 and wider, else `None`: JAX's default.
    """
    return jax.lax.Precision.HIGHEST if dtype.itemsize >= 4 else None
