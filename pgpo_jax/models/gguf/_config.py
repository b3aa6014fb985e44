"""The shape of the model in a GGUF file."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models._config import DecoderConfig
from pgpo_jax.models._rope import RopeScaling
from pgpo_jax.models.gguf._file import GGUFFile

# Our family by the architecture of llama.cpp. Files of Mistral have the architecture llama.
FAMILY_OF = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_NUMBER = (int, float)
# Scale factors that other models of these architectures use.
_SCALES = ("logit_scale", "residual_scale", "embedding_scale", "attention.scale")


def gguf_config(file: GGUFFile) -> DecoderConfig:
    """The shape of the model, from the metadata.

    Args:
        file: from `read_gguf`.

    Returns:
        The configuration. If the file names both the end of a turn and the end of a text,
        `eos_token_id` has both.

    Raises:
        ValueError: the file has another architecture, a mixture of experts, sliding windows, or a
            RoPE scaling other than Llama 3's, or a key is missing.

    Added in version 0.2.0.
    """
    family = FAMILY_OF.get(file.architecture)
    if family is None:
        raise PGPOValueError(
            f"{file.path}: general.architecture must be one of {', '.join(FAMILY_OF)}, got "
            f"{file.architecture!r}."
        )
    _refuse_what_is_not_computed(file)
    width, heads = file.own("embedding_length", int), file.own("attention.head_count", int)
    head_dim = file.own("attention.key_length", int, width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (found := file.own(key, int, head_dim)) != head_dim:
            raise PGPOValueError(
                f"{file.path}: {file.architecture}.{key} must be the width of a head, {head_dim}, "
                f"got {found}."
            )
    table = file.tensors.get("token_embd.weight")
    if table is None:
        raise PGPOValueError(f"{file.path}: missing token_embd.weight, the embedding.")
    theta = _as_written(file.own("rope.freq_base", _NUMBER, 1e4))
    ends = [
        file.value(f"tokenizer.ggml.{name}_token_id", int, None) for name in ("eos", "eot", "eom")
    ]
    ends = tuple(dict.fromkeys(end for end in ends if end is not None))
    return DecoderConfig(
        vocab_size=int(table.shape[-1]),
        hidden_size=width,
        intermediate_size=file.own("feed_forward_length", int),
        num_hidden_layers=file.own("block_count", int),
        num_attention_heads=heads,
        num_key_value_heads=file.own("attention.head_count_kv", int, heads),
        head_dim=head_dim,
        rope_theta=theta,
        rms_norm_eps=_as_written(file.own("attention.layer_norm_rms_epsilon", _NUMBER)),
        tie_word_embeddings="output.weight" not in file.tensors,
        max_position_embeddings=file.own("context_length", int),
        bos_token_id=file.value("tokenizer.ggml.bos_token_id", int, None),
        eos_token_id=ends if len(ends) > 1 else next(iter(ends), None),
        pad_token_id=file.value("tokenizer.ggml.padding_token_id", int, None),
        model_type=family,
        rope_scaling=_rope_scaling(file, head_dim, theta),
    )


def _refuse_what_is_not_computed(file: GGUFFile) -> None:
    name = file.architecture
    for key, what in (
        ("expert_count", "a mixture of experts is not implemented"),
        ("attention.sliding_window", "sliding windows are not implemented"),
        *((scale, "this scale is not implemented") for scale in _SCALES),
    ):
        if found := file.own(key, _NUMBER, 0):
            raise PGPOValueError(f"{file.path}: {what}, got {name}.{key} = {found}.")
    kind = file.own("rope.scaling.type", str, "none")
    if kind != "none":
        raise PGPOValueError(
            f"{file.path}: {name}.rope.scaling.type must be 'none', got {kind!r}; Llama 3's "
            "scaling is read from the tensor rope_freqs.weight."
        )


def _rope_scaling(file: GGUFFile, head_dim: int, theta: float) -> RopeScaling | None:
    """Llama 3's scaling, which a file stores as one divisor for each frequency.

    Its other three constants are the same in all models of Meta, so the largest divisor is enough.
    The resulting divisors are compared with the tensor.
    """
    tensor = file.tensors.get("rope_freqs.weight")
    if tensor is None:
        return None
    divisors = np.asarray(tensor.data, np.float64).ravel()
    plain = theta ** -(np.arange(0, head_dim, 2) / head_dim)
    factor = float(divisors.max(initial=1.0))
    if math.isfinite(factor) and factor >= 1 and divisors.shape == plain.shape:
        scaling = RopeScaling(factor=_as_written(factor))
        scaled = np.asarray(scaling.scaled(jnp.asarray(plain, jnp.float32)))
        if np.allclose(plain / scaled, divisors, rtol=1e-4):
            return scaling
    raise PGPOValueError(
        f"{file.path}: rope_freqs.weight is no RoPE scaling of Llama 3's with its constants "
        f"({RopeScaling(1.0)}); others are not implemented."
    )


def _as_written(number: float) -> float:
    """The shortest decimal number with the same float32 value, because the file stores float32."""
    return float(str(np.float32(number)))
