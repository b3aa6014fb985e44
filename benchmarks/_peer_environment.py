"""The environment of `benchmarks.peers`: torch, transformers, TRL and torchsde, pinned."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("peers-requirements.txt")
_STAMP = ".installed"
_CHECK = "import torch, transformers, torchsde, trl.experimental.sdpo.sdpo_trainer"


def usual_folder() -> Path:
    """`pgpo-jax/peers` in `XDG_CACHE_HOME`, or in `.cache` of the home folder."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # By the XDG specification a relative path is ignored.
    base = given if given.is_absolute() else Path.home() / ".cache"
    return base / "pgpo-jax" / "peers"


def interpreter(folder: Path, requirements: Path = REQUIREMENTS) -> str:
    """The interpreter of the environment, which is made if it is not there or not complete.

    The stamp is written last, so an interrupted installation is begun again. It names the versions,
    so another file of requirements installs anew.

    Args:
        folder: of the environment.
        requirements: what `pip` installs.

    Returns:
        The path of its `python`.

    Raises:
        RuntimeError: the environment cannot be made; the message has the command and its end.
    """
    python, stamp = folder / "bin" / "python", folder / _STAMP
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = f"{version} {hashlib.sha256(requirements.read_bytes()).hexdigest()}\n"
    try:
        if stamp.is_file() and stamp.read_text() == wanted and python.exists():
            return str(python)
        if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
            raise RuntimeError(f"--environment must be an environment or empty, got {folder}")
        print(f"installing the peers into {folder} (once; some minutes, 1.5 GB)", file=sys.stderr)
        _run([sys.executable, "-m", "venv", str(folder)], folder)
        stamp.unlink(missing_ok=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--no-input", "--requirement", str(requirements)], folder)
        _run([str(python), "-c", _CHECK], folder)
        stamp.write_text(wanted)
    except OSError as error:
        raise RuntimeError(f"the environment in {folder} cannot be made: {error}") from error
    return str(python)


def check_compiler() -> None:
    """`torch.compile` needs a compiler of C++ on a CPU.

    Raises:
        RuntimeError: there is none.
    """
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++")))):
        raise RuntimeError("`torch.compile` needs a C++ compiler (g++ or clang++), got none")


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise RuntimeError(
            f"the environment in {folder} cannot be made: `{' '.join(command)}` ended with "
            f"{done.returncode}: " + " / ".join(line.strip() for line in last)
        )
