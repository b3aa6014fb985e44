from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from pgpo_jax import models
from pgpo_jax.training._config import MeshConfig


def make_mesh(config: MeshConfig) -> Mesh | None:
    """The mesh ("data", "fsdp", "tensor"), or `None` for one device.

    Raises:
        ValueError: if there are fewer devices than the mesh asks for.
    """
    if config.size == 1:
        return None
    devices = jax.devices()
    if config.size > len(devices):
        raise ValueError(f"the mesh {config} needs {config.size} devices, there are {len(devices)}")
    return models.make_mesh(config.data, config.fsdp, config.tensor, devices=devices[: config.size])


def shard_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Puts host arrays on the devices, their first axis (sequences) spread over the data axes.

    Raises:
        ValueError: if the rows cannot be spread evenly.
    """
    if mesh is None:
        return jax.tree.map(jax.numpy.asarray, tree)
    rows = NamedSharding(mesh, models.partition_spec(("batch",), mesh))

    def put(array: np.ndarray) -> jax.Array:
        shards = mesh.shape["data"] * mesh.shape["fsdp"]
        if array.shape[0] % shards:
            raise ValueError(
                f"{array.shape[0]} rows cannot be spread over data * fsdp = {shards} devices"
            )
        return jax.device_put(array, rows)

    return jax.tree.map(put, tree)
