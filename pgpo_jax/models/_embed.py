"""Looks up tokens in an embedding that is cut over a mesh, without gathering the table."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from pgpo_jax.models._sharding import axis_parts, constrain, partition_spec

_ROWS = ("batch", "length", "width")


def look_up(
    table: Float[Array, "V D"], tokens: Int[Array, "B T"], mesh: Mesh | None
) -> Float[Array, "B T D"]:
    """The tokens' rows of a table, cut over the batch.

    If the table's width is cut over "fsdp", each device looks up the tokens of all devices in its
    own columns. It then sends the results to the devices that hold these rows. So no device holds
    the whole table or its whole gradient, and the data moved is as large as the result. XLA alone
    would gather the table for every micro-batch.

    Args:
        table: the embedding in the compute dtype, with the axes ("vocab", "embed").
        tokens: ids in [0, V).
        mesh: mesh of the table; None for one device.

    Returns:
        The rows.

    Raises:
        ValueError: the batch does not divide over the mesh.
    """
    if mesh is None or axis_parts("embed", mesh) == 1:
        table = constrain(table, ("vocab", None), mesh)
        return constrain(table[tokens], _ROWS, mesh)
    tokens = constrain(tokens, ("batch", "length"), mesh)

    def local(table: Float[Array, "v d"], tokens: Int[Array, "b T"]) -> Float[Array, "b T D"]:
        every = jax.lax.all_gather(tokens, "fsdp", axis=0, tiled=True)
        if "tensor" in mesh.axis_names:
            place = every - jax.lax.axis_index("tensor") * table.shape[0]
            here = (place >= 0) & (place < table.shape[0])
            rows = jnp.where(here[..., None], table[jnp.where(here, place, 0)], 0)
            # One device has each token's row and the others have zeros, so the sum is exact.
            rows = jax.lax.psum(rows, "tensor")
        else:
            rows = table[every]
        return jax.lax.all_to_all(rows, "fsdp", split_axis=0, concat_axis=2, tiled=True)

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(
            partition_spec(("vocab", "embed"), mesh),
            partition_spec(("batch", "length"), mesh),
        ),
        out_specs=partition_spec(_ROWS, mesh),
    )(table, tokens)
