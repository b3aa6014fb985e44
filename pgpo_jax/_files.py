"""Loads an object from a user's Python file, given as `FILE.py:NAME`."""

import hashlib
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.paths import local_path

_SPEC = re.compile(r"(?P<path>.+\.py):(?P<name>.*)", re.DOTALL)


def is_object_spec(spec: str) -> bool:
    """Whether a spec names something in a Python file: `FILE.py:NAME`.

    >>> is_object_spec("rewards.py:brevity"), is_object_spec("synthetic:physics")
    (True, False)

    Added in version 0.2.0.
    """
    return _SPEC.fullmatch(spec) is not None


def load_object(spec: str) -> Any:
    """Load the object that a Python file defines under a name, for your own tasks and rewards.

    The file runs once, as a module of its own. Two specs that name the same unchanged file share
    that module. The folder of the file is put at the end of `sys.path`. So the file can import its
    neighbours, and no installed package is hidden.

    Args:
        spec: `FILE.py:NAME`, e.g. `"rewards.py:brevity"`; a relative path starts at the current
            folder.

    Returns:
        The function, class or other object.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if `spec` is not of this form, the file raises while it is imported (the
            message names the line), or it defines no such name (the message lists those it
            defines).

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "rewards.py")
    ...     with open(path, "w") as file:
    ...         _ = file.write("def brevity(question, response): return 1 / (1 + len(response))")
    ...     load_object(f"{path}:brevity")(None, "abc")
    0.25

    Added in version 0.2.0.
    """
    match = _SPEC.fullmatch(spec)
    if match is None or not match["name"].isidentifier():
        raise PGPOValueError(f"an object in a file must be given as FILE.py:NAME, got {spec!r}")
    path = local_path(match["path"], spec).resolve()
    if not path.is_file():
        raise PGPOFileNotFoundError(f"{spec!r} names the file {path}, which does not exist")
    module = _load_module(path)
    if not hasattr(module, match["name"]):
        public = sorted(name for name in vars(module) if not name.startswith("_"))
        listed = ", ".join(public) or "nothing"
        raise PGPOValueError(f"{path} does not define {match['name']!r}; it defines {listed}")
    return getattr(module, match["name"])


def _load_module(path: Path) -> ModuleType:
    stat = path.stat()
    version = f"{path}\0{stat.st_mtime_ns}\0{stat.st_size}"
    name = f"pgpo_file_{path.stem}_{hashlib.sha256(version.encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the suffix is .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    # Dataclasses and pickling look a module up by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PGPOValueError(
            f"{path} cannot be imported: {type(error).__name__}{_line(error, path)}: {error}"
        ) from error
    return module


def _line(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f" in line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f" in line {lines[-1]}" if lines else ""
