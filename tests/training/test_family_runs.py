"""Runs of the family's objectives by the command: they learn, and go on digit for digit."""

import pytest

from pgpo_jax.cli._main import main
from pgpo_jax.training import PRESETS, read_jsonl, train, with_published
from tests.training.conftest import replaced

# Whose teacher is the model itself.
NAMES = ("opsd", "sdft", "rlsd", "srpo", "rlcsd")
STEPS = 12


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_command_learns(tmp_path, capsys, name):
    """Accuracy on 64 held-out questions with 4 answers each: .47 before."""
    flags = ["train", "--objective", name, "--output", str(tmp_path / "run"), "--trackers"]
    flags += ["--steps", str(STEPS), "--evaluation.every", str(STEPS), "--keep-checkpoints", "0"]
    assert main(flags) == 0
    assert f"with the settings of {name}" in capsys.readouterr().out
    rows = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    before, after = (row["eval/accuracy"] for row in rows if "eval/accuracy" in row)
    assert after > before + 0.1
    assert all(row["pgpo/information"] == row["pgpo/signal"] for row in rows if "loss" in row)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_digit_for_digit(tmp_path, name):
    config = replaced(
        with_published(PRESETS["tiny"], name),
        # RLCSD needs a right and a wrong peer.
        rollout={"questions": 4, "samples": 6 if name == "rlcsd" else 2, "row_buckets": 1},
        evaluation={"every": 100, "questions": 2, "samples": 1},
        optimizer={"warmup_steps": 0},
        # With a snapshot that is not the newest student.
        teacher={"every": 2} if name in ("rlsd", "rlcsd") else {},
        steps=5,
        checkpoint_every=3,
        trackers=(),
    )
    train(config, tmp_path / "whole")
    train(replaced(config, steps=3), tmp_path / "part")
    train(config, tmp_path / "part", resume=True)
    whole, part = (read_jsonl(tmp_path / x / "metrics.jsonl") for x in ("whole", "part"))
    # The run of three steps evaluated its end, which the resumed one keeps.
    kept = [[row for row in rows if "loss" in row] for rows in (whole, part)]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 5
    # They do change from step to step.
    assert kept[0][3]["loss"] != kept[0][4]["loss"]
