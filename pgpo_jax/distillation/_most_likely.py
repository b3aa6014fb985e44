"""Finds the k most likely words without gathering logits that are cut over a mesh."""

import functools as ft
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from pgpo_jax.distillation._head_sharding import HeadSharding

# Mesh axes that cut the vocabulary, by our name and by those of other libraries. All other axes cut
# rows. With another name the result is the same but needs more communication.
_VOCABULARY_AXES = ("tensor", "model", "tp")


class _Cut(NamedTuple):
    """The mesh, and its axes that cut rows and vocabulary."""

    mesh: Mesh | AbstractMesh
    rows: tuple[str, ...]
    vocabulary: tuple[str, ...]


def most_likely(
    logits: Float[Array, "*batch V"], k: int, sharding: HeadSharding | None = None
) -> Int[Array, "*batch k"]:
    """Indices of the k largest logits of each row; no gradient. Ties go to the lowest index."""
    return _most_likely(jax.lax.stop_gradient(logits), k, sharding)


# Only a traced array has its mesh in a form that can be lowered for any devices.
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
    """The layout of the logits as far as it is known: their type names no axes that cut them."""
    mesh = jax.typeof(logits).sharding.mesh
    # Inside another `shard_map` an array is already the part of one device. Explicit axes follow
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

    For a plain top-k XLA would gather the rows of all devices. Equal candidates are in the order of
    their indices, so that both steps choose the lowest.
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
        # The result is the same on all shards of the vocabulary, but JAX cannot infer this from a
        # gather.
        check_vma=False,
    )(rows)
