"""Compiled programs are kept in the user's cache folder, which is never a cause of failure."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pgpo_jax.cli import _main, _program_cache as module
from pgpo_jax.cli._program_cache import keep_programs, programs_folder

OURS = ("JAX_COMPILATION_CACHE_DIR", *module._SETTINGS)
KEEPER = """
import sys
from pgpo_jax.cli._program_cache import keep_programs
print(keep_programs())
import jax
hits = []
jax.monitoring.register_event_listener(lambda event, **kw: hits.append(event))
print(float(jax.jit(lambda x: x * 3 + 1)(2.0)))
print(sum(event.endswith("cache_hits") for event in hits))
"""


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """As in a process that has not imported jax, by a user who has set nothing."""
    for name in OURS:
        # First set, so that what the product sets is undone, too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_the_folder_is_in_the_users_cache(fresh, monkeypatch):
    folder = keep_programs()
    assert folder is not None
    assert folder.is_dir()
    assert folder.parent == fresh / "pgpo-jax"
    assert not list(folder.iterdir())
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(folder)
    assert os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] == str(2**30)
    # Another processor has another folder, and a relative path is none.
    monkeypatch.setattr(module, "_processor", lambda: "another")
    assert programs_folder() != folder
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert programs_folder().parent == Path.home() / ".cache" / "pgpo-jax"


def test_what_the_user_has_set_stays(fresh, monkeypatch):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "7")
    assert keep_programs() is not None
    assert os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "7"
    # A folder is named now, and it is left alone.
    assert keep_programs() is None
    for name, value in (
        ("JAX_COMPILATION_CACHE_DIR", "elsewhere"),
        ("JAX_ENABLE_COMPILATION_CACHE", "false"),
    ):
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        monkeypatch.setenv(name, value)
        assert keep_programs() is None
        assert os.environ.get("JAX_COMPILATION_CACHE_DIR") in (None, "elsewhere")
        monkeypatch.delenv(name)


def test_a_folder_that_cannot_be_made_is_no_error(fresh, monkeypatch, caplog):
    (fresh / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh / "file"))
    with caplog.at_level("INFO", logger="pgpo_jax"):
        assert keep_programs() is None
    assert "compiled programs are not kept" in caplog.text
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_a_program_whose_writer_was_killed_is_removed(fresh):
    folder = programs_folder()
    folder.mkdir(parents=True)
    for name in ("half-cache", "whole-cache", "whole-atime", ".lockfile"):
        (folder / name).write_bytes(b"12345678")
    assert keep_programs() == folder
    # JAX reads the time of each program when it makes room, and would warn for ever.
    left = {path.name for path in folder.iterdir()}
    assert left == {"whole-cache", "whole-atime", ".lockfile"}


def test_a_program_that_has_imported_jax_decides_for_itself(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", object())
    assert keep_programs() is None


def test_the_flag_switches_it_off(monkeypatch):
    kept = []
    monkeypatch.setattr(_main, "keep_programs", lambda: kept.append(True))
    monkeypatch.setitem(_main.COMMANDS, "train", _main.Command("_nothing", "", "train"))
    monkeypatch.setitem(_main.COMMANDS, "inspect", _main.Command("_nothing", ""))
    nothing = SimpleNamespace(main=lambda argv: len(argv))
    monkeypatch.setitem(sys.modules, "pgpo_jax.cli._nothing", nothing)
    assert _main.main(["--no-compilation-cache", "train", "a"]) == 1
    assert _main.main(["inspect", "a", "b"]) == 2
    assert not kept
    # The control: a command that uses models keeps its programs.
    assert _main.main(["train", "a"]) == 1
    assert kept == [True]


@pytest.mark.slow
def test_a_second_process_finds_what_the_first_one_compiled(tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in OURS}
    env |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def run(**more):
        command = [sys.executable, "-c", KEEPER]
        done = subprocess.run(command, env=env | more, capture_output=True, text=True, check=True)
        return done.stdout.split()

    folder, value, hits = run()
    assert (value, hits) == ("7.0", "0")
    assert list(Path(folder).glob("*-cache"))
    again, same, found = run()
    assert (again, same) == (folder, value)
    assert int(found) > 0
    # The control: without the folder nothing is found.
    assert run(JAX_ENABLE_COMPILATION_CACHE="false")[::2] == ["None", "0"]
