from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pgpo_jax._precision import at_least_float32
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models._accumulate_layers import one_pass_only, with_totals
from pgpo_jax.training.rollout._batch import Experience


def accumulated_gradient(
    loss_of: Callable[[Any, Experience], Any],
    params: Any,
    batch: Experience,
    micro_batch: int | None,
    combine: Callable[[Any], Any] = lambda out: out,
    *,
    in_place: bool = False,
) -> tuple[Any, Any]:
    """The gradient of a batch's loss, computed a few rows at a time.

    A scan over the micro-batches holds the activations of one at a time. Their losses and gradients
    are added in float32. So `loss_of` must divide by the denominators of the whole batch, not by
    those of its rows.

    Args:
        loss_of: function that returns the part of the loss of some rows, in the field `loss` of a
            NamedTuple with their statistics.
        params: arrays to differentiate with respect to.
        batch: R rows.
        micro_batch: rows at a time; `None`, or R: all at once.
        combine: function that corrects statistics that are no sum over micro-batches; see
            `Objective.combine`.
        in_place: whether to add a micro-batch's gradient to the sum layer by layer, see
            `pgpo_jax.models.with_totals`. `params` are then those of a model, and the loss passes
            each layer once.

    Returns:
        The gradient, and the loss with its statistics of the whole batch.

    Raises:
        ValueError: the micro-batches do not divide the rows, or rows share their prompts.
        RuntimeError: the loss passes the layers more than once with `in_place`.
    """

    def gradient(rows: Experience, total: Any = None) -> tuple[Any, Any]:
        """The gradient, plus `total` if that is given."""

        def loss_fn(chosen: Any) -> tuple[Array, Any]:
            out = loss_of(chosen if total is None else with_totals(params, chosen), rows)
            return out.loss, out

        return jax.grad(loss_fn, has_aux=True)(params if total is None else total)

    if _is_whole(batch, micro_batch):
        return gradient(batch)

    def add(total: Any, rows: Experience) -> tuple[Any, Any]:
        if in_place:
            with one_pass_only():
                return gradient(rows, total)
        grads, out = gradient(rows)
        return jax.tree.map(lambda t, g: t + g.astype(t.dtype), total, grads), out

    zero = jax.tree.map(lambda p: jnp.zeros(p.shape, at_least_float32(p.dtype)), params)
    total, outs = jax.lax.scan(add, zero, _split(batch, micro_batch))
    return total, combine(_joined(outs))


def measured_beforehand(
    measure: Callable[[Experience], dict[str, Array]], batch: Experience, micro_batch: int | None
) -> dict[str, Array]:
    """Numbers of all rows that the weights of a loss need, if it gets some rows at a time.

    Args:
        measure: function of some rows; see `Objective.beforehand`.
        batch: R rows.
        micro_batch: rows at a time; `None`, or R: all at once.

    Returns:
        The numbers of the whole batch; empty if all rows are taken at once.

    Raises:
        ValueError: see `accumulated_gradient`.
    """
    if _is_whole(batch, micro_batch):
        return {}
    _, outs = jax.lax.scan(lambda _, rows: (None, measure(rows)), None, _split(batch, micro_batch))
    return jax.lax.stop_gradient(_joined(outs))


def _is_whole(batch: Experience, micro_batch: int | None) -> bool:
    return micro_batch is None or micro_batch == batch.sequence_mask.shape[0]


def _split(batch: Experience, micro_batch: int | None) -> Experience:
    """The micro-batches, stacked."""
    count = batch.sequence_mask.shape[0]
    if not micro_batch or count % micro_batch:
        raise PGPOValueError(
            f"a micro-batch of {micro_batch} rows must divide the {count} of a batch"
        )
    if batch.prompt_owner is not None:
        raise PGPOValueError("rows that share their prompts cannot be taken in micro-batches")
    # Each micro-batch takes every `number`-th row. So rows do not move between devices, and each
    # device has its share of every micro-batch.
    number = count // micro_batch
    return jax.tree.map(
        lambda x: x.reshape(micro_batch, number, *x.shape[1:]).swapaxes(0, 1), batch
    )


def _joined(outs: Any) -> Any:
    """Arrays per row in the order of the rows; single numbers per micro-batch are added."""

    def join(x: Array) -> Array:
        if x.ndim == 1:
            return x.sum(dtype=x.dtype)
        return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])

    return jax.tree.map(join, outs)
