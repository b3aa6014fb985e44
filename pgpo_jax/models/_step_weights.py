"""The weights as a decoding step reads them: cut apart by layer and cast, once for all steps."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax.models._layers import LayerWeights, Rotary, rotary
from pgpo_jax.models._qwen3 import Qwen3


class StepWeights(NamedTuple):
    """What a step reads, every weight once."""

    layers: tuple[LayerWeights, ...]
    head: Float[Array, "D V"]
    rope: Rotary
    """The angles of every position there can be: [1, positions, H / 2]."""


def step_weights(model: Qwen3, length: int) -> StepWeights:
    """Cut and cast once for all steps.

    Args:
        model: the model.
        length: positions, prompt included.

    Returns:
        The weights, in the compute dtype.
    """
    layers = model.layers.weights().astype(model.dtype).by_layer(model.config.num_hidden_layers)
    rope = rotary(jnp.arange(length, dtype=jnp.int32)[None], model.config)
    return StepWeights(layers, model.head(), rope)
