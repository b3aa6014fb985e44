"""Configurations as JSON, including those of older versions."""

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pgpo_jax._json_files import number
from pgpo_jax.errors import PGPOValueError

T = TypeVar("T")

# Former settings for controls of the experiments, with the value that has no effect.
_FORMER_CONTROLS = {
    ("information", "rows"): "all",
    ("information", "replay"): [],
    ("information", "flip"): False,
    ("information", "half"): "none",
    ("teacher", "misleading"): 0.0,
}


def from_json(default: T, values: dict[str, Any], where: str = "") -> T:
    """A configuration from the values of `to_json`; missing fields are those of `default`.

    Args:
        default: a configuration.
        values: nested values, as in `config.json`. Values of older versions are migrated.
        where: dotted name of the section, for messages.

    Raises:
        ValueError: a field is unknown or has a value of another type. The message names the field.

    Added in version 0.2.0.
    """
    assert dataclasses.is_dataclass(default)
    assert not isinstance(default, type)
    values = values if where else migrated(values)
    known = {f.name: f.type for f in dataclasses.fields(default)}
    changes = {}
    for name, value in values.items():
        if name not in known:
            raise PGPOValueError(f"a configuration has no field {where}{name}")
        old = getattr(default, name)
        if dataclasses.is_dataclass(old) and not isinstance(value, dict):
            raise PGPOValueError(f"{where}{name} must be an object of fields, got {value!r:.60}")
        if dataclasses.is_dataclass(old):
            changes[name] = from_json(old, value, f"{where}{name}.")
        else:
            # JSON has no tuples.
            changes[name] = tuple(value) if isinstance(value, list) else value
            _check_kind(where + name, known[name], old, changes[name])
    return dataclasses.replace(default, **changes)


def _check_kind(name: str, declared: Any, old: Any, new: Any) -> None:
    """Refuse a value of another type than the default, if the default has one."""
    if new is None:
        if type(None) not in get_args(declared):
            raise PGPOValueError(f"{name} must not be null")
        return
    counted = isinstance(new, int | float) and not isinstance(new, bool)
    if counted and not math.isfinite(number(new)):
        raise PGPOValueError(f"{name} must be finite, got {new!s:.60}")
    element = get_args(declared)[0] if get_origin(declared) is tuple else None
    if isinstance(new, tuple) and element in (str, int, float):
        for value in new:
            _check_kind(f"each of {name}", element, element(), value)
    kinds = [type(old)]
    if old is None:
        # A union such as `int | None`. The section checks the types that are not plain.
        kinds = [kind for kind in get_args(declared) if kind is not type(None)]
        if not kinds or not all(isinstance(kind, type) for kind in kinds):
            return
    if not any(_is_of(new, kind) for kind in kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise PGPOValueError(f"{name} must be of {names}, got {new!r:.60}")


def _is_of(value: Any, kind: type) -> bool:
    """Whether a JSON value has a type: an integer is also a float, and a bool is neither."""
    wide = (int, float) if kind is float else kind
    return isinstance(value, wide) and isinstance(value, bool) == (kind is bool)


def migrated(values: dict[str, Any]) -> dict[str, Any]:
    """The values of an older `config.json` with the current names.

    Raises:
        ValueError: the run used a control that is no longer part of a configuration.
    """
    new = {k: dict(v) if isinstance(v, dict) else v for k, v in values.items()}
    for (section, name), idle in _FORMER_CONTROLS.items():
        held = new.get(section)
        if isinstance(held, dict) and name in held and "method" in values:
            value = held.pop(name)
            if value != idle:
                raise PGPOValueError(
                    f"{section}.{name} was {value!r}: this control is now a part of the "
                    "experiments; see docs/experiments.md"
                )
    method = new.pop("method", None)
    if method is not None:
        new["objective"] = "grpo" if method == "grpo" else "sdpo"
        if method == "sdpo":
            held = new.get("information", {})
            if isinstance(held, dict):
                new["information"] = {**held, "alpha": 0.0}
    loss = new.get("loss")
    if isinstance(loss, dict) and "aggregation" in loss:
        loss["reduction"] = loss.pop("aggregation")
    if "tensorboard" in new:
        new["trackers"] = ["tensorboard"] if new.pop("tensorboard") else []
    return new


def check_same_config(
    old: dict[str, Any],
    new: dict[str, Any],
    folder: Path,
    *,
    free: Collection[str] = (),
    same: Callable[[str, Any, Any], bool] = lambda name, old, new: False,
) -> None:
    """Refuse to continue in a folder that belongs to another configuration.

    Args:
        old: configuration that was read from the folder.
        new: configuration that is requested now.
        folder: folder, for the error.
        free: dotted names of fields that may differ.
        same: function of a field's name and two values that says whether they mean the same.

    Raises:
        ValueError: a field differs. The message names the first one, with both values.
    """
    for name, was, value in differences(old, new, free=free, same=same):
        raise PGPOValueError(
            f"{folder} belongs to another configuration: {name} was {was!r}, now {value!r}"
        )


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    free: Collection[str] = (),
    same: Callable[[str, Any, Any], bool] = lambda name, old, new: False,
) -> Iterator[tuple[str, Any, Any]]:
    """The fields that differ in two nested configurations: dotted name, old value, new value.

    Args:
        old: first configuration.
        new: second configuration.
        free: as of `check_same_config`, as is `same`.
        same: function that says whether two different values mean the same.
    """
    # The comparison is of the JSON form, in which a tuple is a list.
    before, now = (dict(leaves(json.loads(json.dumps(values)))) for values in (old, new))
    for name in sorted(before.keys() | now.keys()):
        was, value = before.get(name), now.get(name)
        if name not in free and was != value and not same(name, was, value):
            yield name, was, value


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested configuration by dotted name."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
