"""The Hugging Face tensor names of our weights."""

from __future__ import annotations

from typing import Any, NamedTuple

from flax import nnx

from pgpo_jax.models._config import DecoderConfig
from pgpo_jax.models._layers import layer_fields

# By our name: the name of Hugging Face, and whether the matrix is stored as [out, in].
_TOP: dict[tuple[str, ...], tuple[str, bool]] = {
    ("embedding",): ("model.embed_tokens.weight", False),
    ("final_norm",): ("model.norm.weight", False),
    ("lm_head",): ("lm_head.weight", True),
}
_LAYER = {
    "input_norm": ("input_layernorm.weight", False),
    "q_proj": ("self_attn.q_proj.weight", True),
    "k_proj": ("self_attn.k_proj.weight", True),
    "v_proj": ("self_attn.v_proj.weight", True),
    "q_norm": ("self_attn.q_norm.weight", False),
    "k_norm": ("self_attn.k_norm.weight", False),
    "o_proj": ("self_attn.o_proj.weight", True),
    "post_norm": ("post_attention_layernorm.weight", False),
    "gate_proj": ("mlp.gate_proj.weight", True),
    "up_proj": ("mlp.up_proj.weight", True),
    "down_proj": ("mlp.down_proj.weight", True),
    "q_bias": ("self_attn.q_proj.bias", False),
    "k_bias": ("self_attn.k_proj.bias", False),
    "v_bias": ("self_attn.v_proj.bias", False),
}


class Source(NamedTuple):
    """The Hugging Face tensors of one weight: one, or one per layer to be stacked."""

    names: tuple[str, ...]
    stacked: bool
    transposed: bool

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of each Hugging Face tensor for a weight of this shape."""
        one = ours[1:] if self.stacked else ours
        return one[::-1] if self.transposed else one


def sources(config: DecoderConfig) -> dict[tuple[str, ...], Source]:
    """The Hugging Face tensors of every weight of a model.

    Args:
        config: config with the number of layers, their weights, and whether the head is separate.

    Returns:
        The tensors of each weight, by its path in the parameter tree.
    """
    table: dict[tuple[str, ...], Source] = {
        path: Source((name,), False, transposed)
        for path, (name, transposed) in _TOP.items()
        if not (path == ("lm_head",) and config.tie_word_embeddings)
    }
    for ours in layer_fields(config):
        name, transposed = _LAYER[ours]
        names = tuple(f"model.layers.{i}.{name}" for i in range(config.num_hidden_layers))
        table["layers", ours] = Source(names, True, transposed)
    return table


def by_path(params: Any) -> dict[tuple[str, ...], Any]:
    """The parameters under the paths that `sources` uses.

    Args:
        params: `nnx.split(model, nnx.Param)[1]`, or a tree of its structure.

    Returns:
        The variables by path.
    """
    return {tuple(map(str, path)): leaf for path, leaf in nnx.to_flat_state(params)}
