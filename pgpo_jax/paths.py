"""Expands and checks the paths that users give."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any, TypeVar

from pgpo_jax.errors import PGPOValueError

T = TypeVar("T")

# At least two letters, since "C:/" begins a path on Windows. `Path` turns two slashes into one.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(path: str | os.PathLike[str], what: str = "a path") -> Path:
    """A path of this machine, with `~` and `~user` expanded.

    Args:
        path: path as the user gave it.
        what: its name in the message, such as `--output`.

    Returns:
        The path. A relative path stays relative.

    Raises:
        ValueError: the path is an address such as `gs://bucket/run`, holds a NUL, or names an
            unknown home.

    >>> local_path("runs/a").as_posix()
    'runs/a'
    >>> try:
    ...     local_path("gs://bucket/run", "output")
    ... except PGPOValueError as error:
    ...     print(str(error)[:67])
    output must be a path of this machine, got 'gs://bucket/run': remot

    Added in version 0.2.0.
    """
    text = os.fspath(path)
    if _SCHEME.match(text):
        shown = re.sub(":/+", "://", text, count=1)
        raise PGPOValueError(
            f"{what} must be a path of this machine, got {shown!r}: remote storage is not "
            "supported, so mount it or copy what is there"
        )
    if "\0" in text:
        raise PGPOValueError(f"{what} must be a path without NUL, got {text!r}")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise PGPOValueError(f"{what} cannot be expanded, got {text!r}: {error}") from None


def with_local_paths(command: T) -> T:
    """A command's arguments with `local_path` applied to each that is a `Path`, or a tuple of them.

    Args:
        command: a dataclass.

    Raises:
        ValueError: as `local_path`, naming the argument.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Command:
    ...     output: Path = Path("~")
    >>> with_local_paths(Command()).output == Path.home()
    True

    Added in version 0.2.0.
    """
    assert dataclasses.is_dataclass(command)
    assert not isinstance(command, type)

    def mended(name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(mended(name, item) for item in value)
        return local_path(value, name) if isinstance(value, Path) else value

    values = {f.name: getattr(command, f.name) for f in dataclasses.fields(command) if f.init}
    paths = {name: mended(name, value) for name, value in values.items()}
    return dataclasses.replace(
        command, **{name: value for name, value in paths.items() if value != values[name]}
    )
