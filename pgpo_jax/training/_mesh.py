from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pgpo_jax.training._config import MeshConfig

ROWS = PartitionSpec(("data", "fsdp"))
"""How sequences are spread: over every axis that does not split the weights of one product."""


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
    grid = np.asarray(devices[: config.size]).reshape(config.data, config.fsdp, config.tensor)
    return Mesh(grid, ("data", "fsdp", "tensor"))


def shard_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Puts host arrays on the devices, their first axis spread over the data axes."""
    if mesh is None:
        return jax.tree.map(jax.numpy.asarray, tree)
    shards = mesh.shape["data"] * mesh.shape["fsdp"]

    def put(array: np.ndarray) -> jax.Array:
        # A few prompts need not fill the mesh: they are then held by every device.
        spec = ROWS if array.shape[0] % shards == 0 else PartitionSpec()
        return jax.device_put(array, NamedSharding(mesh, spec))

    return jax.tree.map(put, tree)
