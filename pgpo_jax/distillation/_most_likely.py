"""The k most likely words, without gathering a sharded batch on every device."""

import functools

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int


def _top(rows: Float[Array, "N V"], k: int) -> Int[Array, "N k"]:
    return jax.lax.top_k(rows, k)[1]


# XLA replicates a plain top-k: each device would receive the logits of the whole batch. Rows are
# independent, and this says so.
_rowwise_top = custom_partitioning(_top, static_argnums=(1,))


def _partition(k: int, mesh, operands, result):
    del result
    spec = operands[0].sharding.spec
    where = NamedSharding(mesh, PartitionSpec(spec[0] if spec else None, None))
    return mesh, functools.partial(_top, k=k), where, (where,)


_rowwise_top.def_partition(
    partition=_partition, sharding_rule="n v -> n k", need_replication_factors=("v", "k")
)


def most_likely(logits: Float[Array, "*batch V"], k: int) -> Int[Array, "*batch k"]:
    """Indices of the k largest logits of each row, the lowest among equals; no gradient."""
    logits = jax.lax.stop_gradient(logits)
    if jax.device_count() == 1:
        return jax.lax.top_k(logits, k)[1]

    # The partitioned call has no batching rule of its own; more rows are just more rows.
    @jax.custom_batching.custom_vmap
    def top(logits: Float[Array, "*batch V"]) -> Int[Array, "*batch k"]:
        flat = logits.reshape(-1, logits.shape[-1])
        return _rowwise_top(flat, k).reshape(*logits.shape[:-1], k)

    @top.def_vmap
    def _(size, batched, logits):
        del size, batched
        return most_likely(logits, k), True

    return top(logits)
