"""The k most likely words, without gathering logits that are cut over a mesh."""

import functools as ft
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from pgpo_jax.distillation._head_sharding import HeadSharding

# Mesh axes by which the vocabulary is cut: ours, and the names that other libraries use. All
# other axes cut rows. Another name costs communication; the result is the same.
_VOCABULARY_AXES = ("tensor", "model", "tp")


class _Cut(NamedTuple):
    """Over which axes of which mesh rows and vocabulary are cut."""

    mesh: Mesh | AbstractMesh
    rows: tuple[str, ...]
    vocabulary: tuple[str, ...]


def most_likely(
    logits: Float[Array, "*batch V"], k: int, sharding: HeadSharding | None = None
) -> Int[Array, "*batch k"]:
    """Indices of the k largest logits of each row, the lowest among equals; no gradient."""
    return _most_likely(jax.lax.stop_gradient(logits), k, sharding)


# Only a traced array knows its mesh in the form that can be lowered for any devices.
@ft.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _most_likely(
    logits: Float[Array, "*batch V"], k: int, sharding: HeadSharding | None
) -> Int[Array, "*batch k"]:
    cut = _cut(logits, sharding)
    if cut is None:
        return jax.lax.top_k(logits, k)[1]
    rows = logits.reshape(-1, logits.shape[-1])
    return _over_shards(rows, k, cut).reshape(*logits.shape[:-1], k)


def _cut(logits: Float[Array, "*batch V"], sharding: HeadSharding | None) -> _Cut | None:
    """How the logits lie, as far as is known: their type names the mesh, not the cut axes."""
    mesh = jax.typeof(logits).sharding.mesh
    # Inside another `shard_map` an array is already a device's own part, and explicit axes carry
    # JAX's own rules.
    if mesh.size < 2 or any(kind != AxisType.Auto for kind in mesh.axis_types):
        return None

    def dividing(axes: tuple[str, ...], size: int) -> tuple[str, ...]:
        return () if size % math.prod(mesh.shape[axis] for axis in axes) else axes

    names = [axis for axis in mesh.axis_names if mesh.shape[axis] > 1]
    known = _VOCABULARY_AXES if sharding is None else sharding.vocabulary
    vocabulary = tuple(axis for axis in known if axis in names)
    rows = tuple(axis for axis in names if axis not in known)
    *batch, words = logits.shape
    return _Cut(mesh, dividing(rows, math.prod(batch)), dividing(vocabulary, words))


def _over_shards(rows: Float[Array, "N V"], k: int, cut: _Cut) -> Int[Array, "N k"]:
    """Top-k of each shard of the vocabulary, then of all shards' candidates.

    XLA would gather the rows of all devices for a plain top-k. Candidates stand in the order of
    their indices where they are equal, so that the lowest is chosen in both steps.
    """

    def local(x: Float[Array, "n v"]) -> Int[Array, "n k"]:
        values, indices = jax.lax.top_k(x, min(k, x.shape[-1]))
        if not cut.vocabulary:
            return indices
        shard = jax.lax.axis_index(cut.vocabulary).astype(indices.dtype)
        indices = indices + shard * x.shape[-1]
        values, indices = (
            jax.lax.all_gather(part, cut.vocabulary, axis=1, tiled=True)
            for part in (values, indices)
        )
        return jnp.take_along_axis(indices, jax.lax.top_k(values, k)[1], axis=1)

    return jax.shard_map(
        local,
        mesh=cut.mesh,
        in_specs=PartitionSpec(cut.rows or None, cut.vocabulary or None),
        out_specs=PartitionSpec(cut.rows or None, None),
        # The result is the same on all shards of the vocabulary, which a gather does not prove.
        check_vma=False,
    )(rows)
