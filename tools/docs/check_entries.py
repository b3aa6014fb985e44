"""Checks of a built site: every public name and every flag has its place in the reference."""

import dataclasses
import html
import re
import zlib
from pathlib import Path
from typing import Any

from tools.docs.public_api import ROOT, where_documented


def missing_entries(site: Path, root: Path = ROOT) -> list[str]:
    """Public names without an entry in the site's inventory of objects.

    Args:
        site: the folder of the built site, with `objects.inv`.
        root: the folder that holds the packages.
    """
    documented = _inventory(site / "objects.inv")
    return sorted({entry for entry in where_documented(root).values() if entry} - documented)


def missing_flags(site: Path) -> list[str]:
    """Flags of `pgpo train` that the page of all flags does not show, one for each setting."""
    from pgpo_jax.training import TrainConfig

    page = (site / "flags" / "index.html").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]*>", "", page))
    shown = set(re.findall(r"--[a-z][a-z0-9.-]*", text))
    return sorted(set(_flags(TrainConfig())) - shown)


def _inventory(path: Path) -> set[str]:
    """The names in an inventory as Sphinx writes it: four lines of text, then zlib."""
    *_, packed = path.read_bytes().split(b"\n", 4)
    lines = zlib.decompress(packed).decode().splitlines()
    return {line.split(" ", 1)[0] for line in lines}


def _flags(settings: Any, prefix: str = "--") -> list[str]:
    found: list[str] = []
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            found += _flags(value, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found
