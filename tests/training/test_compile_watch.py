"""The seconds of compilation are counted, and a long one is told while it lasts."""

import re
import time

import jax
import jax.numpy as jnp
import pytest

from pgpo_jax.training.run._compile_watch import CompileWatch
from pgpo_jax.training.run._progress import Progress


def slow_to_trace(seconds):
    @jax.jit
    def train_step(x):
        time.sleep(seconds)
        return x + 1

    return train_step


def test_a_long_compilation_is_told_and_counted():
    said, step, x = [], slow_to_trace(0.6), jnp.zeros(2)
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    sleeps = jax.jit(lambda x: jax.pure_callback(lambda y: time.sleep(0.6) or y, shape, x))
    sleeps = sleeps.lower(x).compile()
    with CompileWatch(said.append, every=0.2) as watch:
        jax.block_until_ready(step(x))
        compiled, told = watch.seconds, len(said)
        # The controls: a program that is there, and a long call of one, are no compilations.
        jax.block_until_ready((step(x), sleeps(x)))
    assert told >= 2
    assert all(re.fullmatch(r"compiling the update, \d s so far", line) for line in said)
    assert len(said) == told
    assert watch.seconds == compiled > 0.6
    # Nothing is listened to afterwards.
    before = watch.seconds
    slow_to_trace(0)(jnp.zeros(3))
    assert watch.seconds == before


def test_a_short_compilation_is_counted_and_not_told():
    said = []
    with CompileWatch(said.append) as watch:
        slow_to_trace(0.05)(jnp.zeros(2))
    assert watch.seconds > 0.05
    assert not said


def test_a_program_that_fails_to_compile_is_no_compilation_afterwards():
    def fails(x):
        raise ArithmeticError("no such program")

    said = []
    with CompileWatch(said.append, every=0.1):
        with pytest.raises(ArithmeticError):
            jax.jit(fails)(1.0)
        time.sleep(0.3)
    assert not said


def test_a_note_is_a_line_without_a_terminal(caplog):
    caplog.set_level("INFO", logger="pgpo_jax")
    Progress(0, 2, hidden=True).note("compiling the update, 20 s so far")
    assert not caplog.messages
    Progress(0, 2, hidden=False).note("compiling the update, 20 s so far")
    assert caplog.messages == ["compiling the update, 20 s so far"]


def test_a_note_is_behind_the_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    progress = Progress(0, 2, hidden=False)
    progress.note("compiling the update, 20 s so far")
    progress.close()
    assert "compiling the update, 20 s so far" in capsys.readouterr().err
