"""Reads arguments of an optax optimizer from text and checks them by its signature."""

import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args, get_origin

import jax.numpy as jnp

from pgpo_jax.errors import PGPOValueError

Value: TypeAlias = float | bool | int | str | None

# Types of arguments whose default does not show the type, because it is None or a dtype.
_NUMBERS = (
    "beta3",
    "consistent_rms",
    "init_estim_sq_dist",
    "momentum",
    "weight_decay",
    "weight_decay_rate",
    "adam_learning_rate",
)
_DTYPES = ("accumulator_dtype", "dtype_momentum", "mu_dtype")
_PLAIN = {bool: "true or false", int: "an integer", float: "a finite number", str: "a word"}


def parse_arguments(pairs: Sequence[str]) -> dict[str, Value]:
    """Parse `key=value` pairs.

    Args:
        pairs: pairs such as `["momentum=0.9", "nesterov=true"]`, or a text with spaces between the
            pairs.

    Returns:
        The values by key. `true` and `false` are bools, `none` is None, and numbers are int or
        float. Anything else is a string.

    Raises:
        ValueError: a pair has no "=", no key or no value, or a key is repeated.

    >>> parse_arguments(["momentum=0.9 nesterov=true", "mu_dtype=bfloat16"])
    {'momentum': 0.9, 'nesterov': True, 'mu_dtype': 'bfloat16'}
    """
    words = pairs.split() if isinstance(pairs, str) else [w for pair in pairs for w in pair.split()]
    found: dict[str, Value] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals and text):
            raise PGPOValueError(
                f"An optimizer's argument must be written KEY=VALUE without spaces, got {word!r}."
            )
        if key in found:
            raise PGPOValueError(f"The optimizer's argument {key!r} must be given once, got twice.")
        found[key] = _read(text)
    return found


def _read(text: str) -> Value:
    words: dict[str, Value] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def settable(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments of an optimizer after its rate that a number, bool or word can set."""
    parameters = list(inspect.signature(factory).parameters.values())[1:]
    return {p.name: p for p in parameters if _kind(p) is not None}


def checked_arguments(
    name: str, factory: Callable[..., Any], arguments: Mapping[str, Value]
) -> dict[str, Any]:
    """The arguments, checked for their names and converted to their types."""
    known = settable(factory)
    listing = ", ".join(f"{key}={_shown(p.default)}" for key, p in known.items()) or "none"
    for key in arguments:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise PGPOValueError(
                f"An argument of the optimizer {name!r} must be one of: {listing}; "
                f"got {key!r}{hint}."
            )
    return {key: _checked(name, known[key], value) for key, value in arguments.items()}


def _kind(parameter: inspect.Parameter) -> Any:
    """bool, int, float, str, `jnp.dtype` or a tuple of choices; None if it cannot be set."""
    name, default = parameter.name, parameter.default
    if name in _DTYPES:
        return jnp.dtype
    if name.endswith("mask"):
        return None
    if name == "ns_coeffs":
        # By default three numbers, or the name of three numbers in optax.
        return ("standard", "dion")
    if get_origin(parameter.annotation) is Literal:
        return get_args(parameter.annotation)
    if name in _NUMBERS:
        return float
    return type(default) if type(default) in _PLAIN else None


def _checked(name: str, parameter: inspect.Parameter, value: Any) -> Any:
    kind = _kind(parameter)
    if value is None and _may_be_none(parameter):
        return None
    if kind is jnp.dtype:
        rule, holds = "the name of a float dtype", _is_float_dtype(value)
    elif isinstance(kind, tuple):
        rule, holds = f"one of {', '.join(kind)}", value in kind
    elif kind is float:
        rule, holds = _PLAIN[kind], _is_finite_number(value)
    else:
        rule, holds = _PLAIN[kind], type(value) is kind
    if not holds or value is None:
        rule += " or none" if _may_be_none(parameter) else ""
        raise PGPOValueError(
            f"The argument {parameter.name!r} of the optimizer {name!r} must be {rule}, "
            f"got {value!r}."
        )
    if kind is jnp.dtype:
        return jnp.dtype(str(value))
    return float(value) if kind is float else value


def _may_be_none(parameter: inspect.Parameter) -> bool:
    return parameter.default is None or type(None) in get_args(parameter.annotation)


def _is_finite_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_float_dtype(value: Value) -> bool:
    try:
        return isinstance(value, str) and jnp.issubdtype(jnp.dtype(value), jnp.floating)
    except TypeError:
        return False


def _shown(default: Any) -> str:
    if isinstance(default, bool) or default is None:
        return str(default).lower()
    return str(getattr(default, "__name__", default)).replace(" ", "")
