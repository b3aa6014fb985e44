"""The dequantised tensors of a GGUF file, with the interface of a safetensors file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models._config import DecoderConfig
from pgpo_jax.models.gguf._file import GGUFFile

# Hugging Face's name by GGUF's name, for single tensors and for those of each layer.
_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_IN_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
# The configuration reads this tensor; it is no weight.
_NO_WEIGHTS = {"rope_freqs.weight"}


class GGUFWeights:
    """A GGUF file with the interface of `safetensors.safe_open`.

    Args:
        file: from `read_gguf`.
        config: shape of the model.

    Added in version 0.2.0.
    """

    def __init__(self, file: GGUFFile, config: DecoderConfig):
        self._file, self._config = file, config
        self._stored = {
            hugging_face_name(name): tensor
            for name, tensor in file.tensors.items()
            if name not in _NO_WEIGHTS
        }

    def keys(self) -> Iterable[str]:
        """Hugging Face's names of the tensors. A tensor without one keeps its name."""
        return self._stored.keys()

    def get_slice(self, name: str) -> GGUFTensor:
        """A tensor that can be read in parts."""
        heads = None
        # For this architecture only, llama.cpp's converter stores each rotary pair in adjacent
        # rows.
        if self._file.architecture == "llama":
            if name.endswith("self_attn.q_proj.weight"):
                heads = self._config.num_attention_heads
            elif name.endswith("self_attn.k_proj.weight"):
                heads = self._config.num_key_value_heads
        return GGUFTensor(self._stored[name], self._file, heads)


class GGUFTensor:
    """A tensor whose parts are dequantised to float32 when they are read.

    Args:
        stored: tensor of the reader.
        file: path of the file, for messages.
        paired_heads: the number of heads, if the rows of each head are in the order 0, H/2, 1, H/2
            + 1, ...
    """

    def __init__(self, stored: Any, file: GGUFFile, paired_heads: int | None):
        self._stored, self._file, self._heads = stored, file, paired_heads

    def get_shape(self) -> list[int]:
        """The shape with the outputs first. The file stores them last."""
        return [int(size) for size in self._stored.shape[::-1]]

    def get_dtype(self) -> str:
        """Dtype of the numbers that are read."""
        return "F32"

    def __getitem__(self, index: Any) -> np.ndarray:
        import gguf

        rows, *rest = index if isinstance(index, tuple) else (index,)
        data, kind = self._stored.data, self._stored.tensor_type
        if self._heads is not None and data.ndim == 2:
            # Each row is quantised separately, so rows can be reordered without dequantisation.
            half = data.shape[0] // self._heads // 2
            data = data.reshape(self._heads, half, 2, -1).swapaxes(1, 2).reshape(data.shape)
        try:
            whole = gguf.quants.dequantize(np.ascontiguousarray(data[rows]), kind)
        except (NotImplementedError, KeyError) as error:
            raise PGPOValueError(
                f"{self._file.path}: {self._stored.name} is quantised as {kind.name}, which the "
                "library gguf cannot undo."
            ) from error
        return whole[(slice(None), *rest)].astype(np.float32, copy=False)


def hugging_face_name(name: str) -> str:
    """Hugging Face's name of a tensor.

    >>> hugging_face_name("blk.3.attn_q.bias")
    'model.layers.3.self_attn.q_proj.bias'
    >>> hugging_face_name("blk.3.ssm_in.weight")
    'blk.3.ssm_in.weight'

    Added in version 0.2.0.
    """
    if (found := _IN_LAYER.fullmatch(name)) and found[2] in _LAYER:
        return f"model.layers.{found[1]}.{_LAYER[found[2]]}.{found[3]}"
    stem, _, kind = name.rpartition(".")
    return f"{_TOP[stem]}.{kind}" if stem in _TOP else name
