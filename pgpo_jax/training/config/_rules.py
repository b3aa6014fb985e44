"""Checks of settings that raise with rule and value."""

import dataclasses
import math
from typing import Any, Literal, get_args, get_origin

from pgpo_jax.errors import PGPOValueError


def require(holds: bool, rule: str, value: object) -> None:
    """Raise ValueError with rule and value unless it `holds`."""
    if not holds:
        raise PGPOValueError(f"{rule}, got {value!r}")


def positive(owner: object, *names: str) -> None:
    """Raise ValueError unless these fields are positive."""
    for name in names:
        value = getattr(owner, name)
        require(value > 0, f"{type(owner).__name__}.{name} must be positive", value)


def finite(owner: object, *names: str) -> None:
    """Raise ValueError unless these fields are finite."""
    for name in names:
        value = getattr(owner, name)
        require(math.isfinite(value), f"{type(owner).__name__}.{name} must be finite", value)


def probability(owner: object, *names: str) -> None:
    """Raise ValueError unless these fields are in [0, 1]."""
    for name in names:
        value = getattr(owner, name)
        require(0 <= value <= 1, f"{type(owner).__name__}.{name} must be in [0, 1]", value)


def one_of_its_choices(owner: Any) -> None:
    """Raise ValueError unless each field of type `Literal` holds one of its choices."""
    for entry in dataclasses.fields(owner):
        if get_origin(entry.type) is Literal:
            value, choices = getattr(owner, entry.name), get_args(entry.type)
            rule = f"{type(owner).__name__}.{entry.name} must be one of {choices}"
            require(value in choices, rule, value)
