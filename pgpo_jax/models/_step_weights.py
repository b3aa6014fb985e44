"""The weights as a decoding step reads them: cut apart by layer and cast, once for all steps."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._precision import product_precision
from pgpo_jax.models._decoder import Decoder
from pgpo_jax.models._layers import LayerWeights, Rotary, rotary
from pgpo_jax.models._sharding import target_platform


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HalvedKernel:
    """A kernel cut across its inputs, for the product with a single row.

    XLA for CPU computes `row @ kernel` on one thread, and a batch of two such products on two:
    the step, which is spent on reading kernels, then reads with both.
    """

    halves: Float[Array, "2 half out"]

    def product(self, x: Float[Array, "*one in"]) -> Float[Array, "*one out"]:
        """`x @ kernel` for one row, in float32."""
        parts = jnp.einsum(
            "prd,pdf->prf", x.reshape(2, 1, -1), self.halves, preferred_element_type=jnp.float32
        )
        return (parts[0] + parts[1]).reshape(*x.shape[:-1], -1)

    def __rmatmul__(self, x: Float[Array, "*one in"]) -> Float[Array, "*one out"]:
        return self.product(x).astype(x.dtype)


class StepWeights(NamedTuple):
    """What a step reads, every weight once."""

    layers: tuple[LayerWeights, ...]
    head: Float[Array, "D V"] | HalvedKernel
    rope: Rotary
    """The angles of every position there can be: [1, positions, H / 2]."""

    def logits(self, hidden: Float[Array, "R D"]) -> Float[Array, "R V"]:
        """The product with the head, in float32."""
        if isinstance(self.head, HalvedKernel):
            return self.head.product(hidden)
        return jnp.matmul(
            hidden,
            self.head,
            precision=product_precision(self.head.dtype),
            preferred_element_type=jnp.float32,
        )


def step_weights(model: Decoder, rows: int, length: int) -> StepWeights:
    """Cut and cast once for all steps.

    Args:
        model: the model.
        rows: how many are decoded at once.
        length: positions, prompt included.

    Returns:
        The weights, in the compute dtype.
    """
    layers = model.layers.weights().astype(model.dtype).by_layer(model.config.num_hidden_layers)
    rope = rotary(jnp.arange(length, dtype=jnp.int32)[None], model.config)
    weights = StepWeights(layers, model.head(), rope)
    one_device = model.mesh is None or model.mesh.size == 1
    if rows > 1 or not one_device or target_platform(model.mesh) != "cpu":
        return weights
    halved = tuple(LayerWeights(*map(_halved, layer)) for layer in layers)
    return StepWeights(halved, _halved(weights.head), rope)


def _halved(weight: Any) -> Any:
    # Gains are no kernels, and those of LoRA stay as they are.
    if not isinstance(weight, jax.Array) or weight.ndim != 2 or weight.shape[0] % 2:
        return weight
    return HalvedKernel(weight.reshape(2, -1, weight.shape[1]))
