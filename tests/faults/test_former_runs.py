"""Run folders of former versions: reported, inspected, resumed and exported."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pgpo_jax.cli import main
from pgpo_jax.reports import read_run
from pgpo_jax.training import (
    Checkpoints,
    init_state,
    load_policy,
    read_config,
    read_jsonl,
)

FORMER = Path(__file__).parent / "former"
FOLDERS = {"no_digest": "grpo", "sum_digest": "pgpo"}


@pytest.fixture(params=FOLDERS)
def folder(request, tmp_path):
    shutil.copytree(FORMER / request.param, tmp_path / request.param)
    return tmp_path / request.param


def test_it_is_reported(folder, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert main(["report", str(folder), "--output", str(page)]) == 0
    assert "0.62" in capsys.readouterr().out
    assert page.stat().st_size > 10_000
    assert read_run(folder).accuracies()[-1][0] == 2


def test_it_keeps_no_texts_which_is_said(folder, capsys):
    assert main(["inspect", str(folder)]) == 2
    assert "keeps no texts" in capsys.readouterr().err


def test_its_configuration_and_its_checkpoint_are_read(folder, caplog):
    config = read_config(folder)
    assert config.label == FOLDERS[folder.name]
    assert (config.lora.rank, config.lora.targets, config.steps) == (1, ("o_proj",), 2)
    _, params = load_policy(config.model, param_dtype=config.param_dtype)
    template = init_state(
        params,
        config.make_optimizer(),
        config.make_objective().teacher_settings,
        lora=config.lora,
        seed=config.seed,
    )
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state = checkpoints.restore(template)
        assert checkpoints.inputs() is None
    assert int(state.step) == 2
    before, after = (np.asarray(s.params["o_proj"]["b"][...]) for s in (template, state))
    assert not before.any()
    assert after.any()
    # Negative control of the digest that there is.
    assert ("wrote no digests" in caplog.text) == (folder.name == "no_digest")


@pytest.mark.slow
def test_it_is_resumed_with_one_warning(folder, caplog):
    kept = (folder / "metrics.jsonl").read_text()
    arguments = ["train", "--output", str(folder), "--resume", "--trackers"]
    assert main([*arguments, "--steps", "3", "--texts.rows", "0"]) == 0
    assert (folder / "metrics.jsonl").read_text().startswith(kept)
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert np.isfinite(rows[-1]["loss"])
    # It has today's form now, and the next checkpoint a record.
    assert json.loads((folder / "config.json").read_text())["objective"] in ("grpo", "sdpo")
    with Checkpoints(folder / "checkpoints") as checkpoints:
        inputs = checkpoints.inputs()
    assert inputs is not None
    assert inputs["config"]["lora"]["rank"] == 1
    # Negative control: with another setting it is refused, by today's name.
    assert main([*arguments, "--steps", "4", "--loss.reduction", "token_mean"]) == 2


@pytest.mark.slow
def test_it_is_exported(folder, tmp_path, capsys):
    assert main(["export", str(folder), "--output", str(tmp_path / "model")]) == 0
    assert "made by an older version" in capsys.readouterr().err
    assert (tmp_path / "model" / "model.safetensors").is_file()
