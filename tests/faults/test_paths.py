"""Paths that users give: addresses of remote storage, and the home folder."""

import doctest
import importlib
import json
from pathlib import Path

import pytest

from pgpo_jax import models, paths, reports, tasks, training
from pgpo_jax.cli import main
from pgpo_jax.training.config._presets import PRESETS

ADDRESS = "gs://bucket/run"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty current folder, and a home folder beside it."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--preset", "tiny", "--output", ADDRESS],
        ["train", f"--output={ADDRESS}", "--resume"],
        ["train", "--preset", "tiny", "--model", "s3://bucket/model"],
        ["train", "--preset", "tiny", "--model=https://huggingface.co/org/name"],
        ["train", "--preset", "tiny", "--task", "s3://bucket/train.json"],
        ["train", "--preset", "tiny", "--eval-task", "s3://bucket/test.json"],
        ["demo", "--output", ADDRESS],
        ["eval", "--model", ADDRESS],
        ["eval", "--task", "file:///train.json"],
        ["sample", "--model", ADDRESS],
        ["plan", "--model", ADDRESS],
        ["export", ADDRESS, "--output", "out"],
        ["export", "runs/a", "--output", ADDRESS],
        ["inspect", ADDRESS],
        ["report", ADDRESS],
        ["report", "runs/a", "--output", ADDRESS],
        ["weak-order", "--output", ADDRESS],
    ],
)
def test_addresses_are_refused_before_any_work(arguments, capsys, monkeypatch):
    def load(*arguments, **keywords):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(models._load, "_Files", load)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "must be a path of this machine, got '" in told
    assert "://" in told
    assert len(told.strip().split("\n")) == 1
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    "call",
    [
        lambda path: training.train(PRESETS["tiny"], path),
        training.read_config,
        training.load_policy,
        models.load_pretrained,
        models.load_tokenizer,
        tasks.load_questions,
        tasks.load_sciknoweval,
        reports.read_run,
        reports.read_texts,
        lambda path: reports.Page("A page").write(f"{path}/a.html"),
        lambda path: training.Checkpoints(Path(path)),
        lambda path: tasks.load_object(f"{path}/rewards.py:brevity"),
    ],
)
def test_the_library_refuses_addresses_too(call):
    with pytest.raises(ValueError, match=r"must be a path of this machine, got 'gs://bucket/run"):
        call(ADDRESS)


@pytest.mark.parametrize("flag", ["--output=~/run", "--output ~/run"])
def test_the_home_folder_is_found(home, flag, monkeypatch):
    from pgpo_jax.cli import _train

    asked = []
    monkeypatch.setattr(_train, "train", lambda config, folder, resume: asked.append(folder))
    monkeypatch.setattr(_train, "write_run_report", lambda *a, **k: home)
    monkeypatch.setattr(_train, "overview", lambda runs: "")
    assert main(["train", "--preset", "tiny", *flag.split()]) == 0
    assert asked == [home / "run"]
    assert not list(Path.cwd().iterdir())


def test_models_and_tasks_in_the_home_folder_are_found(home):
    (home / "train.jsonl").write_text(json.dumps({"question": "1 + 1?", "answer": 2}) + "\n")
    (home / "test.jsonl").write_text(json.dumps({"question": "1 + 2?", "answer": 3}) + "\n")
    task = tasks.load_task("~/train.jsonl")
    assert task.questions("train", 0)[0].answer == "2"
    assert task.questions("test", 0)[0].answer == "3"
    (home / "model").symlink_to(training.model_folder("tiny"))
    assert models.load_tokenizer("~/model").is_fast
    assert training.model_folder("~/model") == str(home / "model")


@pytest.mark.parametrize(
    "name",
    ["paths", "tasks._absolute", "training.config._places", "training.run._lock"],
)
def test_the_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"pgpo_jax.{name}"))
    assert (result.failed, result.attempted > 0) == (0, True)


def test_names_are_no_addresses():
    """Negative control: what a colon or a slash is in otherwise."""
    for name in ("Qwen/Qwen3-8B", "hf:org/name:main", "a/b.py:Name", "C:/data", "synthetic:all"):
        assert str(paths.local_path(name)) == name
    with pytest.raises(ValueError, match="without NUL"):
        paths.local_path("a\0b")
    with pytest.raises(ValueError, match=r"cannot be expanded, got '~nobody-here/x'"):
        paths.local_path("~nobody-here/x")
