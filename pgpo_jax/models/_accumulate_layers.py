"""Adds the gradient of the layers to a running sum, one layer at a time."""

from __future__ import annotations

import dataclasses
import functools as ft
import operator as op
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPORuntimeError
from pgpo_jax.models._layers import LayerWeights


@ft.partial(jax.tree_util.register_dataclass, data_fields=["value", "total"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Accumulated:
    """A stacked weight of all layers with the sum of its gradients so far.

    The gradient with respect to `total` is that sum plus the gradient with respect to `value`,
    written into the same memory. So one array of gradients is enough, where a sum over
    micro-batches needs two. A loss must read the weights in one differentiated pass only, because
    each further pass would add the sum again.
    """

    value: Float[Array, "layers ..."]
    total: Float[Array, "layers ..."]

    def __getitem__(self, index: Any) -> Accumulated:
        """The part of one layer; `...` gives the whole."""
        return jax.tree.map(lambda part: part[index], self)


# Counts the differentiated passes through the layers while a loss is traced.
_PASSES: ContextVar[list[int] | None] = ContextVar("passes", default=None)


@contextmanager
def one_pass_only() -> Iterator[None]:
    """Refuse a loss that differentiates through the layers more than once; checked during tracing.

    Raises:
        RuntimeError: the loss did so. Raised at the end of the block.
    """
    token = _PASSES.set([])
    try:
        yield
        passes = _PASSES.get() or []
    finally:
        _PASSES.reset(token)
    if len(passes) > 1:
        raise PGPORuntimeError(
            "an objective with one_pass True must differentiate through the student's layers "
            f"once, this one did {len(passes)} times: let its one_pass return False"
        )


def with_totals(params: Any, totals: Any) -> Any:
    """The model's parameters, for a loss that is differentiated with respect to `totals`.

    Args:
        params: parameters of the model, `nnx.split(model, nnx.Param)[1]`.
        totals: sums of gradients, float32, of the same structure.

    Returns:
        Parameters for `nnx.merge`. If each layer is passed once, the gradient of a loss with
        respect to `totals` is `totals` plus the gradient with respect to `params`.
    """

    def adding(path: tuple[Any, ...], value: nnx.Variable, total: nnx.Variable) -> nnx.Variable:
        pair = (value.get_value(), total.get_value())
        in_layers = path[0] == jax.tree_util.DictKey("layers")
        return value.replace(Accumulated(*pair) if in_layers else _adding(*pair))

    return jax.tree.map_with_path(
        adding, params, totals, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )


@jax.custom_vjp
def _adding(value: Array, total: Array) -> Array:
    del total
    return value


def _forward(value: Array, total: Array) -> tuple[Array, Array]:
    return value, total


def _backward(total: Array, gradient: Array) -> tuple[None, Array]:
    return None, total + gradient.astype(total.dtype)


_adding.defvjp(_forward, _backward)


def through_layers(
    layer: Callable[[Array, LayerWeights], Array], x: Array, weights: LayerWeights
) -> Array:
    """Apply one layer after the other; only their inputs are stored for the backward pass.

    Args:
        layer: function of the stream and one layer's weights that returns the stream.
        x: the residual stream before the first layer.
        weights: weights of all layers, each `Accumulated`.

    Returns:
        The stream after the last layer; its gradient is that of `Accumulated`.
    """
    values, totals = (weights.mapped(op.attrgetter(part)) for part in ("value", "total"))
    depth = values.input_norm.shape[0]

    @jax.custom_vjp
    def scanned(values: LayerWeights, totals: LayerWeights, x: Array) -> Array:
        del totals
        return jax.lax.scan(lambda x, w: (layer(x, w), None), x, values)[0]

    def forward(values: LayerWeights, totals: LayerWeights, x: Array) -> tuple[Array, Any]:
        passes = _PASSES.get()
        if passes is not None:
            passes.append(depth)
        x, inputs = jax.lax.scan(lambda x, w: (layer(x, w), x), x, values)
        return x, (values, totals, inputs)

    def backward(kept: Any, cotangent: Array) -> tuple[None, LayerWeights, Array]:
        values, totals, inputs = kept

        def one(step: Array, carry: tuple[Array, LayerWeights]) -> tuple[Array, LayerWeights]:
            cotangent, totals = carry
            at = depth - 1 - step

            def here(stacked: Array) -> Array:
                return jax.lax.dynamic_index_in_dim(stacked, at, keepdims=False)

            own, x = jax.tree.map(here, (values, inputs))
            to_x, to_weights = jax.vjp(layer, x, own)[1](cotangent)

            def add(total: Array, gradient: Array) -> Array:
                after = here(total) + gradient.astype(total.dtype)
                return jax.lax.dynamic_update_index_in_dim(total, after, at, 0)

            return to_x, jax.tree.map(add, totals, to_weights)

        cotangent, totals = jax.lax.fori_loop(
            jnp.int32(0), jnp.int32(depth), one, (cotangent, totals)
        )
        return None, totals, cotangent

    scanned.defvjp(forward, backward)
    return scanned(values, totals, x)
