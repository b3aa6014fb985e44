"""The shape of a decoder, read from and written to Hugging Face's config.json."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from typing import Any

from pgpo_jax._json_files import number, read_object
from pgpo_jax.errors import PGPOFileNotFoundError, PGPOTypeError, PGPOValueError
from pgpo_jax.models._families import check_family, family_of
from pgpo_jax.models._rope import RopeScaling, read_rope
from pgpo_jax.paths import local_path


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape and constants of a decoder, with the names of Hugging Face's config.json.

    The defaults are those of Qwen3. `Qwen3Config` is another name of this class.

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
        tie_word_embeddings: whether the output head is the transposed embedding.
        max_position_embeddings: longest sequence that the model is made for, in tokens. It is
            recorded, not enforced.
        initializer_range: standard deviation of the random weights.
        bos_token_id: recorded for the files.
        eos_token_id: one id or several that end a response; recorded for the files.
        pad_token_id: recorded for the files.
        model_type: the family: qwen3, qwen2, llama or mistral. It decides whether queries and keys
            are normed (`qk_norm`), whether the projections have biases (`qkv_bias`), and which
            class of Hugging Face loads the files.
        rope_scaling: scaling of the rotary positions; None for no scaling.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is not positive, `head_dim` is odd, the heads do not divide, or the
            family is not implemented.

    >>> config = DecoderConfig(vocab_size=512, hidden_size=64, intermediate_size=128,
    ...     num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16)
    >>> config.rope_theta
    1000000.0
    >>> dataclasses.replace(config, model_type="qwen2").qkv_bias
    True

    Added in version 0.2.0.
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
    model_type: str = "qwen3"
    rope_scaling: RopeScaling | None = None

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
        family_of(self.model_type)
        if not isinstance(self.rope_scaling, RopeScaling | None):
            raise PGPOTypeError(
                f"rope_scaling must be a RopeScaling or None, got {self.rope_scaling!r}."
            )

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normed per head."""
        return family_of(self.model_type).qk_norm

    @property
    def qkv_bias(self) -> bool:
        """Whether the projections to queries, keys and values have biases."""
        return family_of(self.model_type).qkv_bias

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DecoderConfig:
        """Reads a decoded config.json: transformers 4 (`rope_theta`) or 5 (`rope_parameters`).

        Args:
            values: the decoded JSON object. Keys that do not matter here are ignored.

        Returns:
            The configuration.

        Raises:
            ValueError: another family, a mixture of experts, sliding windows, biases of a family
                without biases, another activation, an unknown RoPE scaling, or a missing size.
        """
        family = check_family(values)
        names = {field.name for field in dataclasses.fields(cls)}
        known = {key: value for key, value in values.items() if key in names and value is not None}
        # transformers leaves its defaults out of the files that it writes. They differ from ours.
        required = {
            field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING
        } - {"num_key_value_heads"}
        for key in sorted(required - known.keys()):
            near = difflib.get_close_matches(key, values.keys(), n=2)
            hint = f"; nearest keys: {', '.join(near)}" if near else ""
            raise PGPOValueError(f"config.json: {key} is absent{hint}.")
        known.setdefault("num_key_value_heads", known["num_attention_heads"])
        if "head_dim" not in known:
            known["head_dim"] = family.head_dim or _even_share(
                known["hidden_size"], known["num_attention_heads"]
            )
        known["rope_theta"], known["rope_scaling"] = read_rope(values, family.rope_theta)
        eos = known.get("eos_token_id")
        if isinstance(eos, list):
            known["eos_token_id"] = tuple(eos)
        return cls(**known)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> DecoderConfig:
        """Reads `folder/config.json`.

        Args:
            folder: a Hugging Face model folder.

        Returns:
            The configuration.

        Raises:
            FileNotFoundError: there is no config.json.
            ValueError: it is not a JSON object, or not a model we implement.
        """
        path = local_path(folder, "a model folder") / "config.json"
        if not path.is_file():
            kind = "not a model folder"
            if (path.parent / "adapter_config.json").is_file():
                kind = "a PEFT adapter without its model; merge it into the model with PEFT first"
            raise PGPOFileNotFoundError(f"No config.json in {path.parent}: {kind}.")
        return cls.from_dict(read_object(path))

    def to_dict(self, dtype: str = "float32") -> dict[str, Any]:
        """The contents of a config.json that transformers 4 and 5 both read.

        Args:
            dtype: name of the stored weights' dtype.

        Returns:
            A JSON-serialisable dict.
        """
        family = family_of(self.model_type)
        fields = dataclasses.asdict(self)
        scaling = {} if self.rope_scaling is None else self.rope_scaling.to_dict()
        del fields["model_type"], fields["rope_scaling"]
        eos = self.eos_token_id
        return {
            "architectures": [family.architecture],
            "model_type": self.model_type,
            **fields,
            "eos_token_id": list(eos) if isinstance(eos, tuple) else eos,
            **family.fixed,
            "attention_dropout": 0.0,
            # transformers 4 reads rope_theta, rope_scaling and torch_dtype, 5 the other two.
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta, **scaling},
            **({"rope_scaling": scaling} if scaling else {}),
            "torch_dtype": dtype,
            "dtype": dtype,
        }


Qwen3Config = DecoderConfig
"""The former name of `DecoderConfig`, from when Qwen3 was the only family."""


def _even_share(width: Any, heads: Any) -> Any:
    """The width of a head in families that divide the model's width among the heads."""
    if not (isinstance(width, int) and isinstance(heads, int) and heads > 0):
        return 1  # The constructor of the config refuses it by name.
    if width % heads:
        raise PGPOValueError(
            "config.json: without head_dim, hidden_size must be a multiple of "
            f"num_attention_heads, got {width} and {heads}."
        )
    return width // heads
