"""Runs that are killed, or whose disk is full, go on as if nothing had been."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from pgpo_jax.training import Checkpoints
from tests.faults import drifting
from tests.faults.drifting import Drifting, contents

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    Drifting(folder).run(resume=False)
    return folder


def last_state(folder):
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return checkpoints.restore(Drifting(folder).initial_state)


def same(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def stopped(folder, *arguments):
    """The exit codes of the processes that made the run of a folder; see `drifting`."""
    command = [sys.executable, drifting.__file__, str(folder), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return [int(code) for code in done.stdout.split()]


@pytest.mark.parametrize(("kills", "seed"), [(4, 1), pytest.param(20, 2, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_at_random_moments_is_the_same_run(unbroken, tmp_path, kills, seed):
    *codes, last = stopped(tmp_path / "run", "kill", kills, seed)
    # A run may be faster than some of the kills.
    assert set(codes) <= {-signal.SIGKILL, 0}
    assert -signal.SIGKILL in codes
    assert last == 0
    assert contents(tmp_path / "run") == contents(unbroken)
    assert same(last_state(tmp_path / "run"), last_state(unbroken))


def test_a_run_that_is_stopped_by_one_signal_after_the_other_is_the_same_run(unbroken, tmp_path):
    names = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
    codes = stopped(tmp_path / "run", "signal", *names)
    assert codes == [*(128 + getattr(signal, name) for name in names), 0]
    assert contents(tmp_path / "run") == contents(unbroken)
    assert same(last_state(tmp_path / "run"), last_state(unbroken))


def test_one_wrong_bit_is_seen_in_all_that_follows(unbroken, tmp_path):
    """Negative control: the run goes on from weights that differ in the last bit of one number."""
    folder = tmp_path / "run"
    Drifting(folder, steps=10).run(resume=False)
    state = last_state(folder)
    weights = np.array(state.params["w"])
    weights.view(np.uint32)[np.abs(weights).argmax()] ^= 1
    with Checkpoints(folder / "checkpoints") as checkpoints:
        inputs = checkpoints.inputs()
    shutil.rmtree(folder / "checkpoints")
    with Checkpoints(folder / "checkpoints", inputs=inputs) as checkpoints:
        checkpoints.save(state._replace(params={"w": jax.device_put(weights)}))
    Drifting(folder).run(resume=True)
    assert contents(folder) != contents(unbroken)
    # Up to there it is the same run.
    assert contents(folder)[0][:1000] == contents(unbroken)[0][:1000]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"there is no mount: {error}")
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


# Orbax leaves its other writes behind when one fails; it is chance when they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_loses_nothing(small_disk, tmp_path):
    """Nine checkpoints of some 40 kB do not fit; when there is room the run goes on."""
    settings = {"steps": 9, "size": 10_000, "every": 1, "keep": 100}
    Drifting(tmp_path / "whole", **settings).run(resume=False)
    folder = small_disk / "run"
    with pytest.raises(Exception, match=r"(?i)no space left|RESOURCE_EXHAUSTED"):
        Drifting(folder, **settings).run(resume=False)
    saved = sorted(int(path.name) for path in (folder / "checkpoints").glob("[0-9]"))
    assert 0 < len(saved) < 9
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    Drifting(folder, **settings).run(resume=True)
    assert contents(folder) == contents(tmp_path / "whole")
