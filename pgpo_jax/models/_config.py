"""The shape of a Qwen3 model, read from and written to Hugging Face's config.json."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgpo_jax._json_files import number, read_object
from pgpo_jax.errors import PGPOFileNotFoundError, PGPOTypeError, PGPOValueError

_MODEL_TYPE = "qwen3"
_ARCHITECTURE = "Qwen3ForCausalLM"
# What the architecture fixes: a file that says otherwise describes a model we would get wrong.
_FIXED = {"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False}


@dataclasses.dataclass(frozen=True)
class Qwen3Config:
    """Shape and constants of a Qwen3 model, under the names of Hugging Face's config.json.

    Args:
        vocab_size: number of token ids.
        hidden_size: width of the residual stream.
        intermediate_size: width of the SwiGLU.
        num_hidden_layers: number of blocks.
        num_attention_heads: query heads.
        num_key_value_heads: key and value heads; divides the query heads.
        head_dim: width of one head; even, and independent of `hidden_size`.
        rope_theta: base of the rotary frequencies.
        rms_norm_eps: added to the mean square before the root.
        tie_word_embeddings: the output head is the embedding, transposed.
        max_position_embeddings: longest sequence the model is meant for, in tokens. Recorded, not
            enforced.
        initializer_range: standard deviation of the random weights.
        bos_token_id: recorded for the files.
        eos_token_id: one id or several that end a response; recorded for the files.
        pad_token_id: recorded for the files.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is not positive, `head_dim` is odd, or the heads do not divide.

    >>> config = Qwen3Config(vocab_size=512, hidden_size=64, intermediate_size=128,
    ...     num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16)
    >>> config.rope_theta
    1000000.0
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int = 128
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 32768
    initializer_range: float = 0.02
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None

    def __post_init__(self):
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "max_position_embeddings",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise PGPOTypeError(f"{name} must be an int, got {value!r}.")
            if value < 1:
                raise PGPOValueError(f"{name} must be at least 1, got {value}.")
        for name in ("rope_theta", "rms_norm_eps", "initializer_range"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise PGPOTypeError(f"{name} must be a number, got {value!r}.")
            if not 0 < number(value) < float("inf"):
                raise PGPOValueError(f"{name} must be positive and finite, got {value!s:.60}.")
        if not isinstance(self.tie_word_embeddings, bool):
            raise PGPOTypeError(
                f"tie_word_embeddings must be a bool, got {self.tie_word_embeddings!r}."
            )
        if self.head_dim % 2:
            raise PGPOValueError(
                f"head_dim must be even for rotary positions, got {self.head_dim}."
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise PGPOValueError(
                "num_attention_heads must be a multiple of num_key_value_heads, got "
                f"{self.num_attention_heads} and {self.num_key_value_heads}."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Qwen3Config:
        """Reads a decoded config.json: transformers 4 (`rope_theta`) or 5 (`rope_parameters`).

        Args:
            values: the decoded JSON object. Keys of no consequence here are ignored.

        Returns:
            The configuration.

        Raises:
            ValueError: another architecture, a RoPE scaling, sliding windows, attention biases,
                another activation, or a size that is absent.
        """
        if values.get("model_type") != _MODEL_TYPE:
            raise PGPOValueError(
                f"config.json: model_type must be {_MODEL_TYPE!r}, "
                f"got {values.get('model_type')!r}."
            )
        for key, wanted in _FIXED.items():
            if values.get(key, wanted) != wanted:
                raise PGPOValueError(
                    f"config.json: {key} must be {wanted!r} (nothing else is implemented), "
                    f"got {values[key]!r}."
                )
        if values.get("quantization_config") is not None:
            raise PGPOValueError(
                "config.json: quantization_config must be absent (quantised weights are not read; "
                f"save them in bfloat16), got {values['quantization_config']!r:.60}."
            )
        layer_types = values.get("layer_types") or ()
        if not isinstance(layer_types, list | tuple):
            raise PGPOValueError(
                f"config.json: layer_types must be a list, got {layer_types!r:.60}."
            )
        if any(kind != "full_attention" for kind in layer_types):
            raise PGPOValueError(
                f"config.json: layer_types must all be 'full_attention', got {layer_types!r:.60}."
            )
        if values.get("attention_dropout"):
            raise PGPOValueError(
                "config.json: attention_dropout must be 0 (dropout is not implemented), "
                f"got {values['attention_dropout']!r}."
            )
        names = {field.name for field in dataclasses.fields(cls)}
        known = {key: value for key, value in values.items() if key in names and value is not None}
        # Defaults that transformers leaves out of a file it writes would differ from ours.
        required = {
            field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING
        } - {"num_key_value_heads"}
        for key in sorted(required - known.keys()):
            near = difflib.get_close_matches(key, values.keys(), n=2)
            hint = f"; nearest keys: {', '.join(near)}" if near else ""
            raise PGPOValueError(f"config.json: {key} is absent{hint}.")
        known.setdefault("num_key_value_heads", known["num_attention_heads"])
        known["rope_theta"] = _rope_theta(values)
        eos = known.get("eos_token_id")
        if isinstance(eos, list):
            known["eos_token_id"] = tuple(eos)
        return cls(**known)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> Qwen3Config:
        """Reads `folder/config.json`.

        Args:
            folder: a Hugging Face model folder.

        Returns:
            The configuration.

        Raises:
            FileNotFoundError: there is no config.json.
            ValueError: it is not a JSON object, or not a model we implement.
        """
        path = Path(folder) / "config.json"
        if not path.is_file():
            kind = "not a model folder"
            if (Path(folder) / "adapter_config.json").is_file():
                kind = "a PEFT adapter without its model; merge it into the model with PEFT first"
            raise PGPOFileNotFoundError(f"No config.json in {Path(folder)}: {kind}.")
        return cls.from_dict(read_object(path))

    def to_dict(self, dtype: str = "float32") -> dict[str, Any]:
        """The contents of a config.json that transformers 4 and 5 both read.

        Args:
            dtype: name of the stored weights' dtype.

        Returns:
            A JSON-serialisable dict.
        """
        eos = self.eos_token_id
        return {
            "architectures": [_ARCHITECTURE],
            "model_type": _MODEL_TYPE,
            **dataclasses.asdict(self),
            "eos_token_id": list(eos) if isinstance(eos, tuple) else eos,
            **_FIXED,
            "attention_dropout": 0.0,
            # transformers 4 reads rope_theta and torch_dtype, 5 the other two.
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "torch_dtype": dtype,
            "dtype": dtype,
        }


def _rope_theta(values: Mapping[str, Any]) -> float:
    """The rotary base, from either style; any scaling is refused."""
    theta = values.get("rope_theta")
    for key in ("rope_parameters", "rope_scaling"):
        block = values.get(key)
        if block is None:
            continue
        if not isinstance(block, Mapping):
            raise PGPOValueError(f"config.json: {key} must be an object, got {block!r}.")
        kind = block.get("rope_type", block.get("type", "default"))
        if kind != "default":
            raise PGPOValueError(
                f"config.json: {key} asks for the RoPE scaling {kind!r}; only 'default' (none) is "
                "implemented. Remove it to use the model within its trained length."
            )
        if "rope_theta" in block:
            if theta is not None and theta != block["rope_theta"]:
                raise PGPOValueError(
                    f"config.json: rope_theta is {theta!s:.60} but {key} says "
                    f"{block['rope_theta']!s:.60}."
                )
            theta = block["rope_theta"]
    if theta is None:
        raise PGPOValueError(
            "config.json: neither rope_theta nor rope_parameters.rope_theta is given."
        )
    if isinstance(theta, bool) or not isinstance(theta, int | float):
        raise PGPOValueError(f"config.json: rope_theta must be a number, got {theta!r}.")
    if not math.isfinite(number(theta)):
        raise PGPOValueError(f"config.json: rope_theta must be finite, got {theta!s:.60}.")
    return float(theta)
