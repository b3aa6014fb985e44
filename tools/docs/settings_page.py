"""The page of the configuration: every field of `TrainConfig`, with type, default and meaning."""

import dataclasses
import re
from typing import Any

import griffe

from pgpo_jax.cli._defaults import CLI_PRESETS
from pgpo_jax.training import PUBLISHED, TrainConfig
from tools.docs.fenced import fenced
from tools.docs.public_api import ROOT

_HEAD = """# Configuration

Every field of [`TrainConfig`][pgpo_jax.training.TrainConfig], which describes a run.
A field `section.name` is the flag `--section.name` of `pgpo train` and `pgpo sft`.
A flag has `-` where the field has `_`.
`config.json` of a run folder holds all of them.
The page is made from the dataclasses.

"""
_PRESETS = """## Presets

`pgpo train --preset NAME` starts from a preset. The tables show where a preset differs from the
defaults above.

"""
_OBJECTIVES = """## Objectives

`pgpo train --objective NAME` starts from the settings of the authors of the objective. The tables
show where they differ from the defaults above.

"""


def settings_page() -> str:
    """The Markdown of the page."""
    package = griffe.load("pgpo_jax", search_paths=[ROOT])
    assert isinstance(package, griffe.Module)
    top = _class(package, TrainConfig)
    defaults = _flat(TrainConfig())
    own, sections = [], []
    for field in dataclasses.fields(TrainConfig):
        default = _default(field)
        if dataclasses.is_dataclass(default):
            sections.append(_section(package, field.name, default))
        else:
            own.append(_row(top, field.name, default))
    return "\n".join(
        [
            _HEAD,
            "## The run\n",
            _table(own),
            *sections,
            _PRESETS,
            *[_changes(name, _flat(config)) for name, config in CLI_PRESETS.items()],
            _OBJECTIVES,
            *[_changes(name, {**defaults, **_settings(name)}) for name in PUBLISHED],
        ]
    )


def _section(package: griffe.Module, name: str, settings: Any) -> str:
    kind = type(settings)
    described = _class(package, kind)
    rows = [
        _row(described, f"{name}.{field.name}", getattr(settings, field.name))
        for field in dataclasses.fields(kind)
    ]
    about = fenced(described.docstring.value) if described.docstring else ""
    return f"## `{name}`\n\n{about}\n\n{_table(rows)}"


def _class(package: griffe.Module, kind: type) -> griffe.Class:
    path = f"{kind.__module__}.{kind.__qualname__}".removeprefix("pgpo_jax.")
    found = package[path]
    assert isinstance(found, griffe.Class)
    return found


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _row(described: griffe.Class, name: str, default: object) -> list[str]:
    attribute = described[name.rpartition(".")[2]]
    about = attribute.docstring.value if attribute.docstring else ""
    return [f"`{name}`", _type(str(attribute.annotation)), f"`{default!r}`", about]


def _type(annotation: str) -> str:
    """A type as code; of a choice the values, each by itself, so that a narrow cell can wrap."""
    choice = re.fullmatch(r"Literal\[(.*)\]( \| None)?", annotation)
    if choice is None:
        return f"`{annotation}`"
    values = [f"`{value.strip()}`" for value in choice[1].split(",")]
    return " or ".join([*values, *(["`None`"] if choice[2] else [])])


def _settings(objective: str) -> dict[str, Any]:
    """The settings of an objective's authors, by `section.field`."""
    sections = PUBLISHED[objective]
    return {f"{part}.{name}": v for part, found in sections.items() for name, v in found.items()}


def _changes(name: str, after: dict[str, Any]) -> str:
    before = _flat(TrainConfig())
    rows = [
        [f"`{field}`", f"`{before[field]!r}`", f"`{value!r}`"]
        for field, value in after.items()
        if value != before[field]
    ]
    told = _table(rows, ("field", "default", name)) if rows else "The defaults, unchanged.\n"
    return f"### `{name}`\n\n{told}"


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            found |= _flat(value, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = value
    return found


def _table(
    rows: list[list[str]], head: tuple[str, ...] = ("field", "type", "default", "meaning")
) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)


def _cell(text: str) -> str:
    """On one line. A `|` in code ends no cell here, elsewhere it is escaped."""
    parts = " ".join(text.split()).split("`")
    return "`".join(
        part if number % 2 else part.replace("|", "\\|") for number, part in enumerate(parts)
    )
