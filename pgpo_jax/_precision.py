"""The precision in which the sensitive sums are taken."""

import jax.numpy as jnp


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """float32, unless `dtype` is as wide or wider (float64, complex): then `dtype`."""
    wide = jnp.issubdtype(dtype, jnp.inexact) and dtype.itemsize >= 4
    return dtype if wide else jnp.dtype(jnp.float32)


def wider(a: jnp.dtype, b: jnp.dtype) -> jnp.dtype:
    """The one of two float dtypes that has more bits (the first, if they have equally many)."""
    return a if a.itemsize >= b.itemsize else b
