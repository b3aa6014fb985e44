"""Differences of the model families of one decoder, by the `model_type` of config.json."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pgpo_jax.errors import PGPOValueError


class Family(NamedTuple):
    """A family of models that share the decoder.

    Attributes:
        architecture: Hugging Face's class.
        qk_norm: whether queries and keys are normed per head.
        qkv_bias: whether the projections to queries, keys and values have biases.
        fixed: the only value that is implemented, by key of config.json.
        absent: the default of transformers for a missing key of `fixed`, where it differs from the
            value that is implemented.
        head_dim: default width of a head; None for `hidden_size` divided by `num_attention_heads`.
        rope_theta: default rotary base; None if the file must give it.
    """

    architecture: str
    qk_norm: bool
    qkv_bias: bool
    fixed: Mapping[str, Any]
    absent: Mapping[str, Any] = MappingProxyType({})
    head_dim: int | None = None
    rope_theta: float | None = None


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "qwen3": Family(
            "Qwen3ForCausalLM",
            qk_norm=True,
            qkv_bias=False,
            fixed={"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False},
            head_dim=128,
        ),
        "qwen2": Family(
            "Qwen2ForCausalLM",
            qk_norm=False,
            qkv_bias=True,
            fixed={"hidden_act": "silu", "use_sliding_window": False},
        ),
        # Files of Llama 2 do not give the base.
        "llama": Family(
            "LlamaForCausalLM",
            qk_norm=False,
            qkv_bias=False,
            fixed={
                "hidden_act": "silu",
                "attention_bias": False,
                "mlp_bias": False,
                "rope_interleaved": False,
            },
            rope_theta=1e4,
        ),
        "mistral": Family(
            "MistralForCausalLM",
            qk_norm=False,
            qkv_bias=False,
            fixed={"hidden_act": "silu", "sliding_window": None},
            absent={"sliding_window": 4096},
        ),
    }
)
"""The values of `model_type` that are implemented."""

# Keys by which a file asks for a mixture of experts, under any model_type.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def family_of(model_type: Any) -> Family:
    """The family of a model type.

    Args:
        model_type: the model type of config.json.

    Returns:
        The family.

    Raises:
        ValueError: the model type is not implemented.
    """
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        names = ", ".join(map(repr, FAMILIES))
        raise PGPOValueError(f"model_type must be one of {names}, got {model_type!r}.")
    return family


def check_family(values: Mapping[str, Any]) -> Family:
    """Refuse a config.json of a model that the decoder does not compute.

    Args:
        values: the decoded JSON object.

    Returns:
        The family of its `model_type`.

    Raises:
        ValueError: the model is not implemented. The message names the key, the implemented value
            and the value found.
    """
    experts = [key for key in _EXPERTS if values.get(key)]
    if experts:
        raise PGPOValueError(
            f"config.json: a mixture of experts is not implemented, got {experts[0]} = "
            f"{values[experts[0]]!r} (model_type {values.get('model_type')!r})."
        )
    try:
        family = family_of(values.get("model_type"))
    except PGPOValueError as error:
        raise PGPOValueError(f"config.json: {error}") from None
    for key, wanted in family.fixed.items():
        value = values.get(key, family.absent.get(key, wanted))
        if value != wanted:
            default = "" if key in values else " (the default where the key is absent)"
            raise PGPOValueError(
                f"config.json: {key} must be {wanted!r} (nothing else is implemented), "
                f"got {value!r}{default}."
            )
    if values.get("quantization_config") is not None:
        raise PGPOValueError(
            "config.json: quantization_config must be absent (quantised weights are not read; "
            f"save them in bfloat16), got {values['quantization_config']!r:.60}."
        )
    layer_types = values.get("layer_types") or ()
    if not isinstance(layer_types, list | tuple):
        raise PGPOValueError(f"config.json: layer_types must be a list, got {layer_types!r:.60}.")
    if any(kind != "full_attention" for kind in layer_types):
        raise PGPOValueError(
            f"config.json: layer_types must all be 'full_attention', got {layer_types!r:.60}."
        )
    if values.get("attention_dropout"):
        raise PGPOValueError(
            "config.json: attention_dropout must be 0 (dropout is not implemented), "
            f"got {values['attention_dropout']!r}."
        )
    return family
