"""The comparison of two builds of the trainer, on builds whose steps take what they are told."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import open_parts
from benchmarks.open_parts import Build, different_metrics

# A trainer before it was made of parts, and after: what the benchmark asks of either, and no more.
COMMON = """
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
import jax
import numpy as np

add = jax.jit(lambda x, number: x + np.float32(number), static_argnums=1)

def steps(state):
    print("noise on standard output")
    # A new constant is a new program.
    add(np.zeros(2, np.float32), state * {recompiles})
    if state == {fails_at}:
        raise RuntimeError("no more")
    time.sleep({seconds})
    metrics = {{"loss": 1 / 3 + state + {offset}, "{own}": 0.0, "nothing": float("nan")}}
    timings = {{f"time/{{n}}": {seconds} / 3 for n in ("rollout", "experience", "update")}}
    return state + 1, SimpleNamespace(
        metrics=metrics, timings=timings | {{"compilations/step": 1.0}}
    )
"""
OLD = """
@dataclass(frozen=True)
class Config:
    method: str = "pgpo"

class Trainer:
    def __init__(self, config):
        assert config.method == "sdpo"
        self.initial_state = 0

    def step(self, state):
        return steps(state)

PRESETS = {"tiny": Config()}
"""
NEW = """
@dataclass(frozen=True)
class Information:
    alpha: float = 1.0

@dataclass(frozen=True)
class Config:
    information: Information = Information()

    def build(self):
        return (self.information,)

    def trainer_settings(self):
        return {"seed": 3}

class Trainer:
    def __init__(self, information, *, seed):
        assert (information.alpha, seed) == (0, 3)
        self.initial_state = 0

    def step(self, state):
        return steps(state)

PRESETS = {"tiny": Config()}
"""
SETTINGS = {"recompiles": 0, "fails_at": -1, "seconds": 0.02, "offset": 0.0, "own": "mine"}


def made_build(folder, interface=NEW, **settings):
    package = folder / "pgpo_jax"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    text = COMMON.format(**(SETTINGS | settings)) + interface
    (package / "training.py").write_text(text)
    return Build(folder, Path(sys.executable))


def measured(tmp_path, *, old, new=None, rounds=3):
    new = made_build(tmp_path / "new", **(new or {}))
    old = made_build(tmp_path / "old", OLD, **old)
    return open_parts.measure({"new": new, "old": old, "again": new}, rounds)


@pytest.mark.slow
def test_it_finds_the_slower_build(tmp_path):
    rows, more = measured(tmp_path, old={"seconds": 0.3, "own": "theirs"})
    new, old, again = rows
    assert [row["build"] for row in rows] == ["new", "old", "again"]
    assert old["seconds"] > 0.3 > new["seconds"] > 0.02
    assert old["shortest"] <= old["seconds"] <= old["longest"]
    assert more["ratios"]["new/old"]["median"] < 0.7
    assert more["ratios"]["new/again"]["median"] > 3 * more["ratios"]["new/old"]["median"]
    assert len(more["seconds"]["old"]) == 3
    # What only one build has is not compared, and NaN is equal to NaN.
    assert more["different_metrics"] == []
    assert old["later_programs"] == new["later_programs"] == 0
    assert old["programs"] == again["programs"] > 0


@pytest.mark.slow
def test_it_finds_other_work_and_more_programs(tmp_path):
    rows, more = measured(tmp_path, old={"offset": 1e-12}, new={"recompiles": 1})
    assert more["different_metrics"] == ["loss"]
    # Step k adds k, and each of the three that count adds another number.
    assert [row["later_programs"] for row in rows] == [3, 0, 3]


@pytest.mark.slow
def test_a_build_that_cannot_be_measured_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="the old build fails in a step: the process ended"):
        measured(tmp_path / "fails", old={"fails_at": 1})
    with pytest.raises(FileNotFoundError, match=r"the old build needs .*python, which does not"):
        open_parts.main(["--old", str(tmp_path / "fails" / "old"), "--rounds", "1"])
    with pytest.raises(FileNotFoundError, match=r"the old build needs .*nowhere/pgpo_jax"):
        open_parts.main(["--old", str(tmp_path / "nowhere"), "--rounds", "1"])
    broken = made_build(tmp_path / "broken", "raise ImportError('a broken build')")
    with pytest.raises(RuntimeError, match="the new build does not start"):
        open_parts.answers_in_turns({"new": broken}, 1)
    with pytest.raises(SystemExit):
        open_parts.main(["--old", str(tmp_path), "--rounds", "0"])


def test_other_versions_are_refused(tmp_path, monkeypatch):
    builds = {name: made_build(tmp_path / name) for name in ("new", "old")}
    start = open_parts.started

    def other(name, build):
        child = start(name, build)
        child.about |= {"jax": "0.1"} if name == "old" else {}
        return child

    monkeypatch.setattr(open_parts, "started", other)
    with pytest.raises(ValueError, match=r"the same versions, got .*'jax': '0.1'"):
        open_parts.answers_in_turns(builds, 1)


@pytest.mark.slow
def test_it_writes_a_record(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(open_parts, "ROOT", made_build(tmp_path / "new").folder)
    made_build(tmp_path / "old", OLD, offset=1.0)
    file = tmp_path / "record.json"
    flags = ["--old", str(tmp_path / "old"), "--old-python", sys.executable, "--rounds", "1"]
    open_parts.main([*flags, "--json", str(file)])
    record = json.loads(file.read_text())
    assert [row["build"] for row in record["rows"]] == ["new", "old", "again"]
    assert record["ratios"]["new/old"]["median"] > 0
    assert record["versions"]["jax"] == record["machine"]["jax"]
    printed = capsys.readouterr().out
    assert "new/old: time " in printed
    assert "different metrics: loss" in printed


@pytest.mark.slow
def test_the_real_trainer_takes_steps(monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    real = Build(open_parts.ROOT, Path(sys.executable))
    _, answers = open_parts.answers_in_turns({"new": real}, 1)
    first, second = answers["new"]
    row = open_parts.figures("new", answers["new"])
    assert row["programs"] > row["step_programs"] >= 1
    assert row["seconds"] >= row["update_s"] > 0
    # Plain SDPO, and a step that trains: the second one answers other questions.
    assert first["metrics"]["pgpo/alpha"] == 0 == first["metrics"]["pgpo/rho"] - 1
    assert different_metrics([first], [first]) == []
    assert "loss" in different_metrics([first], [second])
