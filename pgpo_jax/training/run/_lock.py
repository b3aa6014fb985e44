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
except ImportError:  # There is none on Windows.
    fcntl = None

_log = logging.getLogger("pgpo_jax")
# What file systems without locks answer.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextmanager
def claimed_run_folder(folder: Path) -> Iterator[Path]:
    """Keeps other processes from using a run folder that is there; see `locked_file`.

    Raises:
        FileNotFoundError: if there is no such folder.
        RuntimeError: if another process is using it.
    """
    if not folder.is_dir():
        raise PGPOFileNotFoundError(f"there is no run folder {folder}")
    with locked_file(folder / "lock", str(folder)):
        yield folder


@contextmanager
def locked_file(path: Path, what: str = "") -> Iterator[None]:
    """Keeps other processes out; never waits.

    The lock is one of the operating system, which ends with its process. On a file system without
    such locks it is a second file, `lock.owner` beside `lock`, which is made for this process and
    removed at the end, with a warning: after a kill it stays.

    Args:
        path: the file that is locked; created if need be, and left there.
        what: is protected, for messages; the file by default.

    Raises:
        RuntimeError: if another process holds it.

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
    """Whether the operating system holds a lock for us; false where it has none to give."""
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
        # Exclusive: of two processes one fails.
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(me) + "\n")
    except FileExistsError:
        raise PGPORuntimeError(
            f"{what} is in use by {_owner(path)}. If that process has ended (it was killed, say), "
            f"delete {path}"
        ) from None
    _log.warning(
        "the file system of %s has no locks: the file %s keeps other processes out instead; if "
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
    # It may be gone, half written, or another's file.
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
