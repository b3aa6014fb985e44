"""Digests of arrays: 32 bits that show whether an array is the one that was saved.

They are computed on the devices of the arrays, part by part. They are the same for any sharding,
because a sum of integers does not depend on the order.
"""

import functools
import hashlib
import math
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32


def digests(arrays: Mapping[str, Array], *, purpose: str) -> dict[str, str]:
    """Eight hexadecimal digits for each array.

    They depend on every bit and its place, and on name, shape, dtype and purpose. Two different
    arrays have equal digests with a chance of 2**-32.

    Args:
        arrays: arrays by name, on one device or sharded over a mesh.
        purpose: purpose of the arrays, such as the step of a checkpoint.

    Returns:
        The digests, by sorted name.
    """
    found = {}
    for name in sorted(arrays):
        array = arrays[name]
        told = f"{name} {array.dtype}{list(array.shape)} {purpose}"
        salt = np.uint32(zlib.crc32(told.encode()))
        found[name] = _program(_place(array))(array, salt)
    # The results are fetched together, after all computations have been started.
    return {name: f"{int(np.asarray(value)):08x}" for name, value in found.items()}


def combined(found: Mapping[str, str]) -> str:
    """Combine several digests into one."""
    text = "\n".join(f"{name} {found[name]}" for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=8)
def _program(place: Any) -> Any:
    return jax.jit(_digest, out_shardings=place)


def _place(array: Array) -> Any:
    """The sharding of a replicated number, so that every process can read it."""
    layout = array.sharding
    if isinstance(layout, NamedSharding):
        return NamedSharding(layout.mesh, PartitionSpec())
    return layout


def _digest(array: Array, salt: UInt32[Array, ""]) -> UInt32[Array, ""]:
    words = _words(array)
    # The place in the whole array. Places that differ by 2**32 are not distinguished.
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):
        stride = np.uint32(math.prod(words.shape[axis + 1 :]) % 2**32)
        place = place + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * stride
    return jnp.sum(_mixed(words ^ _mixed(place + salt)), dtype=jnp.uint32) ^ salt


def _words(array: Array) -> UInt32[Array, "*shape"]:
    """The bits of an array as words of 32 bits; a number of 64 bits has two words."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    if array.dtype == jnp.bool_:
        return array.astype(jnp.uint32)
    size = min(array.dtype.itemsize, 4)
    return jax.lax.bitcast_convert_type(array, jnp.dtype(f"uint{8 * size}")).astype(jnp.uint32)


def _mixed(words: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """The last steps of MurmurHash3: a permutation in which each bit changes about half of all."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        words = (words ^ (words >> np.uint32(shift))) * np.uint32(factor)
    return words ^ (words >> np.uint32(16))


def former_digest(arrays: Mapping[str, Array]) -> UInt32[Array, " arrays"]:
    """The digests of former versions: the sum of the bits of each array, by sorted name.

    The sum does not distinguish arrays with the same numbers in another order.
    """
    return jax.jit(_sums, out_shardings=arrays["step"].sharding)(dict(arrays))


def _sums(arrays: dict[str, Array]) -> UInt32[Array, " arrays"]:
    def added(array: Array) -> UInt32[Array, ""]:
        unsigned = jnp.dtype(f"uint{8 * array.dtype.itemsize}")
        bits = jax.lax.bitcast_convert_type(array, unsigned)
        return jnp.sum(bits.astype(jnp.uint32), dtype=jnp.uint32)

    return jnp.stack([added(arrays[name]) for name in sorted(arrays)])
