import math
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Int

from pgpo_jax import models
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.training.config import MeshConfig


def make_mesh(config: MeshConfig) -> Mesh | None:
    """The mesh ("data", "fsdp", "tensor") over the devices of all processes.

    Returns:
        The mesh, or `None` for one device.

    Raises:
        ValueError: there are fewer devices than the mesh needs. With several processes there must
            not be more either, because each process needs a device of the mesh.
    """
    devices, processes = jax.devices(), jax.process_count()
    if config.size > len(devices) or (processes > 1 and config.size != len(devices)):
        where = "there are" if processes == 1 else f"the {processes} processes have"
        raise PGPOValueError(
            f"a mesh of data x fsdp x tensor = {config.data} x {config.fsdp} x {config.tensor} "
            f"needs {config.size} devices, {where} {len(devices)}"
        )
    if config.size == 1:
        return None
    return models.make_mesh(config.data, config.fsdp, config.tensor, devices=devices[: config.size])


def process_local_rows(count: int, mesh: Mesh | None) -> Int[np.ndarray, " own"]:
    """The numbers of the `count` rows (sequences, spread over the data axes) in this process.

    Processes that differ only in the tensor axis hold the same rows.

    Raises:
        ValueError: the rows cannot be spread evenly.

    Added in version 0.2.0.
    """
    if mesh is None:
        return np.arange(count)
    shards = _row_shards(mesh)
    if count % shards:
        raise PGPOValueError(f"{count} rows cannot be spread over data * fsdp = {shards} devices")
    places = _rows(mesh).addressable_devices_indices_map((count,))
    starts = sorted({index[0].start or 0 for index in places.values() if index is not None})
    return np.concatenate([np.arange(start, start + count // shards) for start in starts])


def row_parts(count: int, size: int, mesh: Mesh | None) -> Int[np.ndarray, "parts size"]:
    """Cut `count` rows into parts of `size` without moving rows between devices.

    A part has equally many rows of every device, in the original order. So a process holds all rows
    that it needs of each part.

    Raises:
        ValueError: a part cannot be spread evenly, or the parts do not add up to the whole.
    """
    shards = 1 if mesh is None else _row_shards(mesh)
    if count % size or size % shards:
        raise PGPOValueError(
            f"parts of {size} rows must divide {count} rows, and spread over data * fsdp = "
            f"{shards} devices"
        )
    rows = np.arange(count).reshape(shards, count // size, size // shards)
    return rows.swapaxes(0, 1).reshape(-1, size)


def shard_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Put host arrays on the devices, with the first axis (sequences) spread over the data axes.

    Args:
        tree: arrays of the rows that this process holds, in the order of `process_local_rows`.
        mesh: the mesh, or `None` for one device.

    Returns:
        The same tree of arrays of the rows of all processes.

    Raises:
        ValueError: the rows cannot be spread evenly.
    """
    if mesh is None:
        return jax.tree.map(jax.numpy.asarray, tree)
    shards, own = _row_shards(mesh), process_local_rows(_row_shards(mesh), mesh)

    def put(array: np.ndarray) -> jax.Array:
        if array.shape[0] % len(own):
            raise PGPOValueError(
                f"{array.shape[0]} rows cannot be spread over data * fsdp = {len(own)} devices"
            )
        size = array.shape[0] // len(own)

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            place = int(np.searchsorted(own, (index[0].start or 0) // size)) * size
            return array[place : place + size]

        whole = (shards * size, *array.shape[1:])
        return jax.make_array_from_callback(whole, _rows(mesh), part)

    return jax.tree.map(put, tree)


def fetch_rows(tree: Any) -> Any:
    """The rows of this process of arrays from `shard_rows`, on the host."""

    def fetch(array: jax.Array) -> np.ndarray:
        if array.is_fully_addressable:
            return np.asarray(jax.device_get(array))
        shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
        return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])

    return jax.tree.map(fetch, tree)


def gather_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Gather host arrays from all processes: each gives its rows and gets all rows, bit for bit.

    With one process nothing is exchanged. Use this for numbers per row, not for tokens.
    """
    if jax.process_count() == 1:
        return tree

    def gather(array: np.ndarray) -> np.ndarray:
        # The numbers are sent as words of 32 bits, because JAX would round wider numbers.
        words = np.ascontiguousarray(array.astype(np.float64)).view(np.uint32)
        words = words.reshape(len(array), -1)
        all_rows = multihost_utils.process_allgather(shard_rows(words, mesh), tiled=True)
        whole = np.ascontiguousarray(all_rows).view(np.float64)
        return whole.reshape(-1, *array.shape[1:]).astype(array.dtype)

    return jax.tree.map(gather, tree)


def _rows(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, models.partition_spec(("batch",), mesh))


def _row_shards(mesh: Mesh) -> int:
    return math.prod(mesh.shape[axis] for axis in models.SHARDING_RULES["batch"])
