"""The precision in which the sensitive sums are taken."""

import jax.numpy as jnp


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """float32, unless `dtype` is as wide or wider (float64, complex): then `dtype`."""
    wide = jnp.issubdtype(dtype, jnp.inexact) and dtype.itemsize >= 4
    return dtype if wide else jnp.dtype(jnp.float32)
