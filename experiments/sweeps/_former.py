"""Configurations of sweeps that a former version began."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast


def with_defaults(old: Mapping[str, Any], kept: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """A configuration as it was written, with the defaults of the fields that it lacks.

    A field that was added since then has its default: the finished runs did what it says. A field
    without a default stays away, and so differs from whatever is asked for now.

    Args:
        old: as read from the folder.
        kept: what would be written now; fields that are not in it are not filled.
        config: the dataclass that this is made of.

    >>> @dataclasses.dataclass
    ... class Loss:
    ...     k: int = 3
    ...     weight: str = "none"
    >>> now = Loss(k=5, weight="position")
    >>> with_defaults({"k": 5}, dataclasses.asdict(now), now)
    {'k': 5, 'weight': 'none'}
    """
    found = dict(old)
    for field in dataclasses.fields(config):
        name, value = field.name, getattr(config, field.name)
        if name not in kept:
            continue
        if dataclasses.is_dataclass(value) and isinstance(found.get(name), dict):
            found[name] = with_defaults(found[name], kept[name], value)
        elif name not in found:
            default = _default(field)
            if default is not dataclasses.MISSING:
                found[name] = default
    return found


def _default(field: dataclasses.Field[Any]) -> Any:
    made: Any = field.default
    if made is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
    if isinstance(made, type) or not dataclasses.is_dataclass(made):
        return made
    return dataclasses.asdict(cast(Any, made))
