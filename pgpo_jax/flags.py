"""Parses flags into settings; each error is one line."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from pgpo_jax.errors import PGPOValueError

T = TypeVar("T")

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# The sides and rules of the box that tyro draws around an error.
_SIDES = "\u2502|"
_RULE = re.compile("[\u2500-\u257f-]{3,}")


def parse(kind: type[T], prog: str, argv: Sequence[str], **settings: Any) -> T:
    """`tyro.cli` with errors of one line instead of boxes of several lines.

    Args:
        kind: a dataclass.
        prog: name of the command.
        argv: the flags.
        settings: further arguments of `tyro.cli`, such as `default`.

    Raises:
        ValueError: an unknown flag, or a value of the wrong type.
        SystemExit: with code 0, after `--help`.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Settings:
    ...     steps: int = 3
    >>> parse(Settings, "train", ["--steps", "5"])
    Settings(steps=5)

    Added in version 0.2.0.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(kind, prog=prog, args=list(argv), **settings)
    except SystemExit as end:
        if not end.code:
            raise
    raise PGPOValueError(f"{_told(told.getvalue())} (`{prog} --help` lists the options)")


def _told(text: str) -> str:
    """The text between a box's title and its first rule, on one line.

    >>> _told(" Missing argument \\n ------ \\n  Missing value.\\n  ------\\n  See help.\\n")
    'Missing value.'
    """
    parts: list[list[str]] = [[]]
    for line in _COLOURS.sub("", text).splitlines():
        if _RULE.search(line):
            parts.append([])
        else:
            parts[-1].append(line.strip().strip(_SIDES).strip())
    lines = parts[1] if len(parts) > 1 else parts[0]
    return " ".join(" ".join(lines).split())
