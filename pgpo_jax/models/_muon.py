from __future__ import annotations

from typing import Any

import jax
import optax

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models._lora import LORA_TARGETS

# The last two axes of a kernel. Axes before them, such as that of the layers, are a batch.
_IN_OUT = optax.contrib.MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)


def muon_dimension_numbers(params: Any) -> Any:
    """Dimension numbers for `optax.contrib.muon`, which mark the kernels of the layers as matrices.

    Our kernels are stacked, `[layers, in, out]`. Without dimension numbers, optax orthogonalises
    the leaves with two axes and updates all others by Adam. In our models the leaves with two axes
    are the embedding, the head and the stacked scales of the norms, so exactly the kernels would
    be left out. With these dimension numbers each layer's kernel is orthogonalised on its own, and
    so are LoRA's factors, `[layers, in, rank]` and `[layers, rank, out]`. The embedding, the head
    and the norms are updated by Adam, as Muon's authors recommend.

    Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.

    Args:
        params: `nnx.split(model, nnx.Param)[1]`, the factors of `init_lora`, or the same tree as
            plain dicts of arrays. A kernel is a leaf with two axes or more under a name of
            `LORA_TARGETS`; its last axes are `in, out`. Leaves that optax masks stay masked.

    Returns:
        The tree of `params` with `optax.contrib.MuonDimensionNumbers` for each kernel, and `None`
        for each weight that Adam updates.

    Raises:
        ValueError: no leaf is a kernel.

    >>> import flax.nnx as nnx, optax
    >>> from pgpo_jax.models import Qwen3, Qwen3Config, muon_dimension_numbers
    >>> config = Qwen3Config(vocab_size=32, hidden_size=16, intermediate_size=32,
    ...     num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8)
    >>> params = nnx.split(Qwen3(config, rngs=nnx.Rngs(0)), nnx.Param)[1]
    >>> numbers = muon_dimension_numbers(params)
    >>> numbers["layers"]["q_proj"].get_value()
    MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
    >>> print(numbers["embedding"].get_value())
    None
    >>> muon = optax.contrib.muon(
    ...     2e-4, muon_weight_dimension_numbers=muon_dimension_numbers)

    Added in version 0.2.0.
    """
    paths = kernel_paths(params)
    if not paths:
        raise PGPOValueError(
            "muon_dimension_numbers needs a tree with kernels, which are leaves with two axes or "
            f"more under one of the names {', '.join(LORA_TARGETS)}; got none. For another model "
            "pass a function of your own to optax.contrib.muon as muon_weight_dimension_numbers."
        )
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: _IN_OUT if jax.tree_util.keystr(path) in paths else None, params
    )


def kernel_paths(params: Any) -> set[str]:
    """A pattern of the paths of kernels and their LoRA factors, as `keystr` writes paths."""
    return {
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if leaf.ndim >= 2 and any(getattr(entry, "key", None) in LORA_TARGETS for entry in path)
    }
