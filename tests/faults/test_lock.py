"""A run folder on file systems without locks."""

import errno
import importlib
import json
import os
import sys

import pytest

from pgpo_jax.training.run import _lock
from pgpo_jax.training.run._lock import claimed_run_folder

fcntl = pytest.importorskip("fcntl")


def failing(number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    return flock


@pytest.mark.parametrize("name", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "ENOTSUP"])
def test_without_locks_a_file_keeps_others_out(tmp_path, monkeypatch, caplog, name):
    monkeypatch.setattr(fcntl, "flock", failing(getattr(errno, name)))
    owner = tmp_path / "lock.owner"
    with claimed_run_folder(tmp_path):
        assert json.loads(owner.read_text())["pid"] == os.getpid()
        assert "has no locks" in caplog.text
        with (
            pytest.raises(RuntimeError, match=rf"in use by process {os.getpid()} on .*, delete "),
            claimed_run_folder(tmp_path),
        ):
            pass
    assert not owner.exists()
    # A killed process leaves it behind; what the message says helps.
    owner.write_text("half wri")
    with (
        pytest.raises(RuntimeError, match=rf"in use by another process\. .*, delete {owner}$"),
        claimed_run_folder(tmp_path),
    ):
        pass
    owner.unlink()
    with claimed_run_folder(tmp_path):
        pass


def test_with_locks_there_is_no_such_file(tmp_path, caplog):
    """Negative control."""
    with claimed_run_folder(tmp_path):
        assert not (tmp_path / "lock.owner").exists()
        with pytest.raises(RuntimeError, match="another process"), claimed_run_folder(tmp_path):
            pass
    assert not caplog.text


def test_another_error_of_the_lock_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"), claimed_run_folder(tmp_path):
        pass


def test_a_system_without_the_module_has_the_file(tmp_path, monkeypatch):
    # Importing a module that is None fails as one that is not there.
    monkeypatch.setitem(sys.modules, "fcntl", None)
    try:
        module = importlib.reload(_lock)
        with module.claimed_run_folder(tmp_path):
            assert (tmp_path / "lock.owner").exists()
    finally:
        monkeypatch.undo()
        importlib.reload(_lock)


def test_a_folder_that_is_not_there(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="there is no run folder"),
        claimed_run_folder(tmp_path / "none"),
    ):
        pass
