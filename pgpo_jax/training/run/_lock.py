"""One process at a time in a run folder."""

import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgpo_jax.errors import PGPOFileNotFoundError, PGPORuntimeError

try:
    import fcntl
except ImportError:  # The module does not exist on Windows.
    fcntl = None

_log = logging.getLogger("pgpo_jax")
# Error codes of file systems without locks.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextmanager
def claimed_run_folder(folder: Path) -> Iterator[Path]:
    """Keep other processes from using an existing run folder; see `locked_file`.

    Raises:
        FileNotFoundError: the folder does not exist.
        RuntimeError: another process is using it.
    """
    if not folder.is_dir():
        raise PGPOFileNotFoundError(f"there is no run folder {folder}")
    with locked_file(folder / "lock", str(folder)):
        yield folder


@contextmanager
def locked_file(path: Path, what: str = "") -> Iterator[None]:
    """Lock a file against other processes, without waiting.

    The lock is one of the operating system, which ends with its process. On a file system without
    locks it is a second file, `lock.owner` next to `lock`. It is created for this process, with a
    warning, and removed at the end. If the process is killed, the file remains.

    Args:
        path: file to lock. It is created if it does not exist, and it is not removed.
        what: name of the protected object, for messages; the file by default.

    Raises:
        RuntimeError: another process holds it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked_file(Path(folder) / "lock"):
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['lock']

    Added in version 0.2.0.
    """
    what = what or str(path)
    with path.open("w") as lock:
        if _locked(lock.fileno(), what):
            yield
        else:
            with _owned(path.with_name(path.name + ".owner"), what):
                yield


def _locked(file: int, what: str) -> bool:
    """Whether the operating system has locked the file for us; false if it has no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PGPORuntimeError(f"{what} is in use by another process") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


@contextmanager
def _owned(path: Path, what: str) -> Iterator[None]:
    me = {"host": socket.gethostname(), "pid": os.getpid()}
    try:
        # Creation is exclusive: one of two processes fails.
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(me) + "\n")
    except FileExistsError:
        raise PGPORuntimeError(
            f"{what} is in use by {_owner(path)}. If that process has ended (it was killed, say), "
            f"delete {path}"
        ) from None
    _log.warning(
        "the file system of %s has no locks: the file %s keeps other processes out instead. If "
        "this process is killed, delete that file before you resume",
        what,
        path.name,
    )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {int(owner['pid'])} on {owner['host']}"
    # The file may be gone, incomplete, or that of another process.
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
