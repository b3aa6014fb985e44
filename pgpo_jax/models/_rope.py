"""Scaling of rotary positions, and its form in config.json."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._json_files import number
from pgpo_jax.errors import PGPOTypeError, PGPOValueError

_LLAMA3 = "llama3"


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama 3's scaling of the rotary positions, with the names of config.json.

    Frequencies with a long wavelength are divided by `factor`. Those with a short wavelength do not
    change. Between the two the change is gradual.

    Source: The Llama 3 Herd of Models (arXiv:2407.21783); the formula is that of Meta's code and of
    Hugging Face's `rope_type` "llama3".

    Args:
        factor: divisor of the low frequencies, at least 1.
        low_freq_factor: wavelengths above `original_max_position_embeddings / low_freq_factor`, in
            tokens, are scaled by the whole factor.
        high_freq_factor: wavelengths below `original_max_position_embeddings / high_freq_factor`,
            in tokens, do not change. It is above `low_freq_factor`.
        original_max_position_embeddings: the context length of the original training, in tokens.

    Raises:
        TypeError: a field is not a number.
        ValueError: a field is out of its range.

    >>> RopeScaling(factor=8.0).original_max_position_embeddings
    8192

    Added in version 0.2.0.
    """

    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise PGPOTypeError(f"rope_scaling: {field.name} must be a number, got {value!r}.")
            if not 0 < value < math.inf:
                raise PGPOValueError(
                    f"rope_scaling: {field.name} must be positive and finite, got {value}."
                )
        if self.factor < 1:
            raise PGPOValueError(f"rope_scaling: factor must be at least 1, got {self.factor}.")
        if self.high_freq_factor <= self.low_freq_factor:
            raise PGPOValueError(
                "rope_scaling: high_freq_factor must be above low_freq_factor, got "
                f"{self.high_freq_factor} and {self.low_freq_factor}."
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields as config.json holds them."""
        return {"rope_type": _LLAMA3, **dataclasses.asdict(self)}

    def scaled(self, frequencies: Float[Array, " half"]) -> Float[Array, " half"]:
        """The scaled frequencies.

        Args:
            frequencies: frequencies without scaling, in radians per token.

        Returns:
            Scaled frequencies, in radians per token.
        """
        turns = self.original_max_position_embeddings * frequencies / (2 * math.pi)
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = jnp.clip(kept, 0.0, 1.0)
        return (1.0 - kept) * frequencies / self.factor + kept * frequencies


def read_rope(values: Mapping[str, Any], default: float | None) -> tuple[float, RopeScaling | None]:
    """Base and scaling from a config.json of transformers 4 or 5.

    Args:
        values: the decoded JSON object. transformers 4 writes `rope_theta` and `rope_scaling`;
            transformers 5 writes `rope_parameters`.
        default: the base if neither is given; None if one must be given.

    Returns:
        `rope_theta` and the scaling, None without one.

    Raises:
        ValueError: another kind of scaling, a base that is missing or no number, or two bases that
            differ.
    """
    theta = values.get("rope_theta")
    scalings = {}
    for key in ("rope_parameters", "rope_scaling"):
        block = values.get(key)
        if block is None:
            continue
        if not isinstance(block, Mapping):
            raise PGPOValueError(f"config.json: {key} must be an object, got {block!r}.")
        scalings[key] = _scaling(key, block)
        if "rope_theta" in block:
            if theta is not None and theta != block["rope_theta"]:
                raise PGPOValueError(
                    f"config.json: rope_theta is {theta!s:.60} but {key} says "
                    f"{block['rope_theta']!s:.60}."
                )
            theta = block["rope_theta"]
    if len(set(scalings.values())) > 1:
        raise PGPOValueError(
            "config.json: rope_parameters and rope_scaling must say the same, got "
            f"{values['rope_parameters']} and {values['rope_scaling']}."
        )
    theta = default if theta is None else theta
    if theta is None:
        raise PGPOValueError(
            "config.json: neither rope_theta nor rope_parameters.rope_theta is given."
        )
    if isinstance(theta, bool) or not isinstance(theta, int | float):
        raise PGPOValueError(f"config.json: rope_theta must be a number, got {theta!r}.")
    if not math.isfinite(number(theta)):
        raise PGPOValueError(f"config.json: rope_theta must be finite, got {theta!s:.60}.")
    return float(theta), next(iter(scalings.values()), None)


def _scaling(key: str, block: Mapping[str, Any]) -> RopeScaling | None:
    kind = block.get("rope_type", block.get("type", "default"))
    if kind not in ("default", _LLAMA3):
        raise PGPOValueError(
            f"config.json: {key} asks for the RoPE scaling {kind!r}; only 'default' (none) and "
            f"{_LLAMA3!r} are implemented. Remove it to use the model within its trained length."
        )
    if block.get("partial_rotary_factor", 1.0) != 1.0:
        raise PGPOValueError(
            f"config.json: {key}: partial_rotary_factor must be 1 (whole heads turn), got "
            f"{block['partial_rotary_factor']!r}."
        )
    if kind == "default":
        return None
    names = [field.name for field in dataclasses.fields(RopeScaling)]
    absent = [name for name in names if name not in block]
    if absent:
        raise PGPOValueError(f"config.json: {key} of type {kind!r} lacks {', '.join(absent)}.")
    return RopeScaling(**{name: _widened(name, block[name]) for name in names})


def _widened(name: str, value: Any) -> Any:
    """Converts a JSON integer to a float; any other value does not change."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and name.endswith("factor") else value
