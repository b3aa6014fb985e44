"""The weights of a decoding step: gathered over "fsdp", cut by layer and cast, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from pgpo_jax._precision import product_precision
from pgpo_jax.models._decoder import Decoder, Layers
from pgpo_jax.models._layers import LayerWeights, Rotary, rotary
from pgpo_jax.models._lora import AdaptedKernel
from pgpo_jax.models._sharding import GATHERED, axis_parts, constrain, target_platform


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HalvedKernel:
    """A kernel that is split along its inputs, for the product with a single row.

    XLA for CPU computes `row @ kernel` on one thread, and a batch of two such products on two
    threads. A step mostly reads kernels, so two threads make it faster.
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
    """The weights that a step reads, each of them once.

    On a mesh no weight is cut over "fsdp". Otherwise the loop would gather the weights for every
    token, because the compilers for TPU and GPU leave such a gather inside the loop.

    Added in version 0.2.0.
    """

    embedding: Float[Array, "V D"]
    layers: tuple[LayerWeights, ...]
    head: Float[Array, "D V"] | HalvedKernel
    rope: Rotary
    """The rotary angles of all positions: [1, positions, H / 2]."""

    def embed(self, model: Decoder, tokens: Int[Array, "R 1"]) -> Float[Array, "R 1 D"]:
        """The tokens' rows of the embedding, in the compute dtype."""
        x = self.embedding[tokens].astype(model.dtype)
        return constrain(x, ("batch", "length", "width"), model.mesh)

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
    """Cut and cast the weights and, on a mesh, gather them over "fsdp", once for all steps.

    Args:
        model: the model.
        rows: number of rows that are decoded at once.
        length: number of positions, prompt included.

    Returns:
        The weights, in the compute dtype.

    Added in version 0.2.0.
    """
    config, mesh = model.config, model.mesh
    stacked = model.layers.weights().astype(model.dtype)
    layers = stacked.by_layer(config.num_hidden_layers)
    embedding = model.embedding[...]
    if axis_parts("embed", mesh) > 1:
        layers = tuple(_whole_layer(layer, model.layers, mesh) for layer in layers)
        embedding = constrain(embedding.astype(model.dtype), ("vocab", None), mesh)
    rope = rotary(jnp.arange(length, dtype=jnp.int32)[None], config)
    weights = StepWeights(embedding, layers, model.head(), rope)
    one_device = mesh is None or mesh.size == 1
    if rows > 1 or not one_device or target_platform(mesh) != "cpu":
        return weights
    halved = tuple(LayerWeights(*map(_halved, layer)) for layer in layers)
    return weights._replace(layers=halved, head=_halved(weights.head))


def _whole_layer(layer: LayerWeights, layers: Layers, mesh: Mesh | None) -> LayerWeights:
    whole: dict[str, Any] = {
        name: None if weight is None else _whole(weight, getattr(layers, name).axes[1:], mesh)
        for name, weight in layer._asdict().items()
    }
    return LayerWeights(**whole)


def _whole(weight: Any, axes: Sequence[str | None], mesh: Mesh | None) -> Any:
    """A weight of one layer, gathered over "fsdp" and cut over the other axes as before."""
    axes = tuple(GATHERED.get(name, name) for name in axes)
    if isinstance(weight, AdaptedKernel):
        return weight.constrained(axes, mesh)
    return constrain(weight, axes, mesh)


def _halved(weight: Any) -> Any:
    # Gains are no kernels, and kernels with LoRA are not split.
    if not isinstance(weight, jax.Array) or weight.ndim != 2 or weight.shape[0] % 2:
        return weight
    return HalvedKernel(weight.reshape(2, -1, weight.shape[1]))
