"""The tensors of a GGUF file, dequantised, as if they were those of a safetensors file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models._config import DecoderConfig
from pgpo_jax.models.gguf._file import GGUFFile

# GGUF's name -> Hugging Face's, for what is there once and for what is there in every layer.
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
# Read by the configuration; no weight.
_NO_WEIGHTS = {"rope_freqs.weight"}


class GGUFWeights:
    """What `safetensors.safe_open` gives, of a GGUF file.

    Args:
        file: from `read_gguf`.
        config: its shape.

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
        """Hugging Face's names of the tensors; a tensor that it does not have keeps its name."""
        return self._stored.keys()

    def get_slice(self, name: str) -> GGUFTensor:
        """A tensor of which parts can be read."""
        heads = None
        # llama.cpp's converter puts the numbers that turn together side by side, in this
        # architecture alone.
        if self._file.architecture == "llama":
            if name.endswith("self_attn.q_proj.weight"):
                heads = self._config.num_attention_heads
            elif name.endswith("self_attn.k_proj.weight"):
                heads = self._config.num_key_value_heads
        return GGUFTensor(self._stored[name], self._file, heads)


class GGUFTensor:
    """A tensor whose parts are dequantised when they are read, as float32.

    Args:
        stored: of the reader.
        file: for messages.
        paired_heads: the number of heads, if each head's rows lie as 0, H/2, 1, H/2 + 1, ...
    """

    def __init__(self, stored: Any, file: GGUFFile, paired_heads: int | None):
        self._stored, self._file, self._heads = stored, file, paired_heads

    def get_shape(self) -> list[int]:
        """The shape, outputs first. The file has it the other way round."""
        return [int(size) for size in self._stored.shape[::-1]]

    def get_dtype(self) -> str:
        """In which the numbers are read."""
        return "F32"

    def __getitem__(self, index: Any) -> np.ndarray:
        import gguf

        rows, *rest = index if isinstance(index, tuple) else (index,)
        data, kind = self._stored.data, self._stored.tensor_type
        if self._heads is not None and data.ndim == 2:
            # Rows are quantised one by one, so that they can be moved as they are.
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
