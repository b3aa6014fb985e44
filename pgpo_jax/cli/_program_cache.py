"""Compiled programs are kept in the user's cache folder, so that a later command need not compile.

What is set here are JAX's own environment variables, before jax is imported. Whatever of them the
user has set stays. The folder is never a cause of failure: without it programs are compiled.
"""

import hashlib
import importlib.util
import logging
import os
import platform
import sys
from pathlib import Path

_LOG = logging.getLogger("pgpo_jax")
_FOLDER = "JAX_COMPILATION_CACHE_DIR"
# The least recently used programs are removed beyond it.
_MOST_BYTES = 2**30
_SETTINGS = {
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(_MOST_BYTES),
    # A program that compiles faster is not worth a file.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
}


def keep_programs() -> Path | None:
    """Lets JAX keep what it compiles in the user's cache folder.

    Nothing is done if jax is imported already, or if the user has set JAX's own cache. Nothing is
    done without `filelock` either, which bounds the size.

    Returns:
        The folder, or None.
    """
    if "jax" in sys.modules or _FOLDER in os.environ:
        return None
    if os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "true").lower() in ("false", "0", "off"):
        return None
    if importlib.util.find_spec("filelock") is None:
        return None
    try:
        folder = programs_folder()
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
        _drop_unfinished(folder)
    except (OSError, RuntimeError) as error:
        # RuntimeError: there is no home folder.
        _LOG.info("compiled programs are not kept: %s", error)
        return None
    os.environ[_FOLDER] = str(folder)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    return folder


def _drop_unfinished(folder: Path) -> None:
    """Removes programs whose writer was killed: JAX would warn of them for ever."""
    for program in folder.glob("*-cache"):
        # JAX writes the time of use after the program.
        if not program.with_name(f"{program.name.removesuffix('-cache')}-atime").exists():
            program.unlink(missing_ok=True)


def programs_folder() -> Path:
    """`pgpo-jax/programs-KIND` in `XDG_CACHE_HOME`, or in `.cache` of the home folder.

    Programs for one kind of processor may fail on another, which may have the same home folder.
    So KIND is a digest of the processor's name and its instructions.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # By the XDG specification a relative path is ignored.
    base = given if given.is_absolute() else Path.home() / ".cache"
    kind = hashlib.sha256(_processor().encode()).hexdigest()[:12]
    return base / "pgpo-jax" / f"programs-{kind}"


def _processor() -> str:
    words = [platform.machine(), platform.processor()]
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(errors="replace").splitlines()
        wanted = ("model name", "flags", "Features")
        words += sorted({line for line in lines if line.startswith(wanted)})
    return "\n".join(words)
