"""The tree of a model's parameters: their shapes, dtypes and shardings."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from pgpo_jax.models._config import DecoderConfig
from pgpo_jax.models._decoder import Decoder
from pgpo_jax.models._sharding import check_mesh, partition_spec


def abstract_params(config: DecoderConfig, param_dtype: Any = jnp.float32) -> Any:
    """The tree of the parameters' shapes and dtypes; no memory is allocated.

    Args:
        config: shape of the model.
        param_dtype: dtype of the weights.

    Returns:
        `nnx.split(model, nnx.Param)[1]` with `jax.ShapeDtypeStruct` leaves.
    """
    model = nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0), param_dtype=param_dtype))
    return nnx.split(model, nnx.Param)[1]


def shardings(config_or_params: Any, mesh: Mesh) -> Any:
    """The sharding of each parameter: a tree of `NamedSharding` with the parameters' structure.

    Args:
        config_or_params: a config, or `nnx.split(model, nnx.Param)[1]` (arrays or abstract).
        mesh: the mesh.

    Returns:
        The tree, for `jax.device_put` and for the shardings of `jax.jit`.

    Raises:
        ValueError: the mesh does not fit the model. This is checked only if a config is given.
    """
    if isinstance(config_or_params, DecoderConfig):
        check_mesh(config_or_params, mesh)
        config_or_params = abstract_params(config_or_params)
    return jax.tree.map(
        lambda param: param.replace(NamedSharding(mesh, partition_spec(param.axes, mesh))),
        config_or_params,
        is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
    )
