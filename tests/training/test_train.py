"""Whole runs of the shipped model: determinism, resuming, interruption, failing disks."""

import gc
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from pgpo_jax.training import PRESETS, Trainer, read_jsonl, train
from tests.training.conftest import replaced
from tools.docs.glossary import GLOSSARY, glossary

SMALL = replaced(
    PRESETS["tiny"],
    steps=4,
    checkpoint_every=2,
    rollout={"questions": 2, "samples": 4, "row_buckets": 1},
    evaluation={"every": 2, "questions": 4, "samples": 2, "batch": 4},
)
FILES = ("metrics.jsonl", "evaluations.jsonl")


def documented_files() -> set[str]:
    """The files and folders that docs/run-folder.md names."""
    page = (GLOSSARY.parent / "run-folder.md").read_text()
    return set(re.findall(r"^\| `([a-z.-]+)` \|", page, re.M))


def contents(folder: Path) -> list[str]:
    return [(folder / name).read_text() for name in FILES]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    return folder, train(SMALL, folder)


@pytest.mark.slow
@pytest.mark.optimized
def test_a_run_writes_what_it_promises(unbroken):
    folder, result = unbroken
    assert json.loads((folder / "config.json").read_text())["rollout"]["questions"] == 2
    rows = read_jsonl(folder / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    evaluations = [row for row in rows if "eval/accuracy" in row]
    assert [row["step"] for row in evaluations] == [0, 2, 4]
    for row, scores in zip(evaluations, read_jsonl(folder / "evaluations.jsonl"), strict=True):
        assert np.mean(list(scores["scores"].values())) == pytest.approx(row["eval/accuracy"])
    timings = read_jsonl(folder / "timings.jsonl")
    steps = [row for row in timings if "time/step" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    assert steps[-1]["compilations/step"] == 1
    assert 0 < steps[0]["time/compile"] < steps[0]["time/step"]
    assert steps[-1]["time/compile"] < steps[0]["time/compile"]
    for name, at in (("time/evaluation", [0, 2, 4]), ("time/checkpoint", [2, 4])):
        assert [row["step"] for row in timings if row.get(name, 0) > 0] == at
    first, *later = [row for row in timings if "time/evaluation" in row]
    assert 0 < first["time/evaluation_compile"] < first["time/evaluation"]
    assert all(row["time/evaluation_compile"] < row["time/evaluation"] for row in later)
    assert list((folder / "tensorboard").iterdir())
    assert int(result.state.step) == 4
    names = {name for row in [*rows, *timings] for name in row} - {"step"}
    page = glossary(GLOSSARY.read_text())
    assert names <= page.keys()
    assert names >= {name for name, logged_by in page.items() if logged_by == "all"}
    assert {path.name for path in folder.iterdir()} <= documented_files()


@pytest.mark.slow
@pytest.mark.optimized
def test_resuming_is_the_same_run(unbroken, tmp_path):
    whole, result = unbroken
    train(replaced(SMALL, steps=2), tmp_path / "run")
    resumed = train(SMALL, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == contents(whole)
    same = jax.tree.map(np.array_equal, jax.device_get(result.state), jax.device_get(resumed.state))
    assert all(jax.tree.leaves(same))
    # What was compiled before the run was broken off is what it goes on with.
    timings = read_jsonl(tmp_path / "run" / "timings.jsonl")
    assert [row["compilations/step"] for row in timings if "time/step" in row] == [1, 1, 1, 1]
    # There is no room for two: the state that it began with was gone before the other was read.
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(resumed.trainer.initial_state))


@pytest.mark.slow
@pytest.mark.optimized
def test_a_run_without_checkpoints_is_the_same_run(unbroken, tmp_path):
    folder = tmp_path / "run"
    train(replaced(SMALL, keep_checkpoints=0, trackers=()), folder)
    assert contents(folder) == contents(unbroken[0])
    assert not (folder / "checkpoints").exists()
    assert not (folder / "tensorboard").exists()
    with pytest.raises(ValueError, match=r"keep_checkpoints must be at least 1 to resume.*got 0"):
        train(replaced(SMALL, keep_checkpoints=0, trackers=()), folder, resume=True)


@pytest.mark.usefixtures("unbroken")  # whose programs were compiled as those of this test will be
@pytest.mark.slow
@pytest.mark.optimized
def test_a_run_of_grpo_resumes_too(tmp_path):
    config = replaced(SMALL, objective="grpo", steps=2, evaluation={"every": 1})
    train(replaced(config, steps=1), tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    train(config, tmp_path / "whole")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    rows = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "policy/mixed_group_fraction" in row] == [1, 2]


@pytest.mark.slow
@pytest.mark.optimized
def test_a_run_with_checkpoints_cannot_be_resumed_without(unbroken):
    folder = unbroken[0]
    before = sorted(folder.rglob("*")), contents(folder)
    with pytest.raises(ValueError, match=r"keep_checkpoints must be at least 1 to resume.*got 0"):
        train(replaced(SMALL, steps=5, keep_checkpoints=0), folder, resume=True)
    assert (sorted(folder.rglob("*")), contents(folder)) == before


@pytest.mark.slow
@pytest.mark.optimized
def test_another_seed_is_another_run(unbroken, tmp_path):
    train(replaced(SMALL, steps=2, seed=1), tmp_path / "seed")
    assert (
        contents(tmp_path / "seed")[0].split("\n")[:3] != contents(unbroken[0])[0].split("\n")[:3]
    )


CHILD = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.training.test_train import SMALL
    from pgpo_jax.training import train
    from pgpo_jax.training import Trainer
    real = Trainer.step
    def slow(self, state):
        # Gives the parent time to strike between the second checkpoint's step and the end.
        out = real(self, state)
        Path({folder!r}, "step").write_text(str(int(out[0].step)))
        if int(out[0].step) == {pause}:
            time.sleep({seconds})
        return out
    Trainer.step = slow
    train(SMALL, {folder!r}, resume={resume})
"""


def child(folder, *, pause, resume=False, seconds=60):
    root = str(Path(__file__).resolve().parents[2])
    code = textwrap.dedent(CHILD).format(
        root=root, folder=str(folder), pause=pause, resume=resume, seconds=seconds
    )
    with (folder / "stderr").open("w") as errors:
        return subprocess.Popen([sys.executable, "-c", code], stderr=errors, env=os.environ.copy())


def wait_for(folder, step, process, limit=240):
    for _ in range(limit * 10):
        path = folder / "step"
        if path.exists() and path.read_text() == str(step):
            return
        assert process.poll() is None, (folder / "stderr").read_text()
        time.sleep(0.1)
    raise TimeoutError


@pytest.mark.slow
@pytest.mark.optimized
def test_a_killed_run_resumes_digit_for_digit(unbroken, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    process = child(folder, pause=3)
    wait_for(folder, 3, process)
    process.kill()
    process.wait()
    assert "\n".join(contents(folder)) != "\n".join(contents(unbroken[0]))
    train(SMALL, folder, resume=True)
    assert contents(folder) == contents(unbroken[0])


@pytest.mark.slow
@pytest.mark.optimized
def test_sigterm_saves_and_exits_with_143(unbroken, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    process = child(folder, pause=1, seconds=1)
    wait_for(folder, 1, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 143
    steps = [row["step"] for row in read_jsonl(folder / "metrics.jsonl") if "loss" in row]
    assert steps == [1]
    train(SMALL, folder, resume=True)
    assert contents(folder) == contents(unbroken[0])


@pytest.mark.slow
@pytest.mark.optimized
def test_a_full_disk_leaves_the_older_checkpoint_whole(unbroken, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    train(replaced(SMALL, steps=2), folder)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    real = Trainer.step

    def step(self, state):
        out = real(self, state)
        if int(out[0].step) == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
        return out

    monkeypatch.setattr(Trainer, "step", step)
    try:
        with pytest.raises(Exception, match=r"(?i)file too large|FAILED_PRECONDITION|write"):
            train(SMALL, folder, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)
    monkeypatch.undo()
    train(SMALL, folder, resume=True)
    assert contents(folder) == contents(unbroken[0])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda data: data[:9000] + bytes([data[9000] ^ 1]) + data[9001:], "has other bits in "),
        pytest.param(
            lambda data: data[: len(data) // 2], "cannot be read ", marks=pytest.mark.slow
        ),
    ],
)
# Orbax leaves its other reads behind when one fails; it is chance when they are collected.
@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_named_and_the_older_one_offered(unbroken, tmp_path, damage, told):
    """One bit of one weight, and a file that is cut; it is never passed over unasked."""
    folder = tmp_path / "run"
    shutil.copytree(unbroken[0], folder)
    newest = folder / "checkpoints" / "4"
    file = max(newest.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    file.write_bytes(damage(file.read_bytes()))
    longer = replaced(SMALL, steps=5)
    with pytest.raises(ValueError, match=rf"checkpoint 4 in .* {told}.*goes on from step 2$"):
        train(longer, folder, resume=True)
    gc.collect()
    shutil.rmtree(newest)
    train(SMALL, folder, resume=True)
    assert contents(folder) == contents(unbroken[0])


@pytest.mark.slow
@pytest.mark.optimized
def test_checkpoints_of_another_model_are_refused(unbroken, tmp_path):
    config = replaced(SMALL, steps=2, teacher={"kind": "live"})
    train(config, tmp_path / "run")
    from pgpo_jax.training import Checkpoints

    with (
        Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints,
        pytest.raises(ValueError, match=r"checkpoint 2 in .* lacks teacher/"),
    ):
        checkpoints.restore(unbroken[1].trainer.initial_state)


@pytest.mark.slow
@pytest.mark.optimized
def test_a_run_that_ended_before_its_first_checkpoint_is_resumed_from_the_start(
    unbroken, tmp_path, caplog
):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SMALL.to_json()))
    # What its first evaluation left behind.
    (folder / "metrics.jsonl").write_text(contents(unbroken[0])[0].split("\n")[0] + "\n")
    train(SMALL, folder, resume=True)
    assert "there is no checkpoint" in caplog.text
    assert contents(folder) == contents(unbroken[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "/nowhere/model"}, "/nowhere/model"),
        ({"task": "synthetic:astrology"}, "astrology"),
        ({"task": "/nowhere/train.json"}, "/nowhere/train.json"),
        ({"evaluation": {"questions": 0}}, "must be positive for an endless task"),
        ({"rollout": {"max_prompt": 8}}, "raise rollout.max_prompt|at most 8 prompt tokens"),
        ({"information": {"estimator": "oracle"}}, "oracle"),
    ],
)
def test_bad_input_is_refused_before_the_folder_is_made(tmp_path, change, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(replaced(SMALL, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mesh_needs_its_devices(tmp_path):
    config = replaced(SMALL, mesh={"tensor": 16})
    with pytest.raises(ValueError, match=r"needs 16 devices, there are 8"):
        train(config, tmp_path / "run")
