"""The notebook of the paper's run: its small half makes what the real half is given, and trains."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pgpo_jax import models
from pgpo_jax.tasks import load_questions
from pgpo_jax.training import PRESETS
from tests.examples.notebooks import EXAMPLES, code_cells, run_cells

FILE = EXAMPLES / "qwen3_sciknoweval.ipynb"


@pytest.fixture
def cells():
    return code_cells(FILE)


@pytest.fixture
def example(cells):
    """What the first two cells define; they do not train."""
    space = run_cells(FILE, cells[:2])
    return SimpleNamespace(**space)


def test_the_real_run_is_the_preset(example):
    config = example.paper("models/Qwen3-8B", "physics/train.json")
    preset = PRESETS["paper-qwen3-8b"]
    assert (config.model, config.task) == ("models/Qwen3-8B", "physics/train.json")
    assert replace(config, model=preset.model, task=preset.task) == preset


def test_questions_have_the_layout_of_sciknoweval(example, tmp_path):
    path = example.small_questions(tmp_path / "physics")
    train, test = load_questions(str(path)), load_questions(str(path.parent / "test.json"))
    assert (train[0].id, len(train), len(test)) == ("physics-0", 64, 16)
    assert not {q.prompt for q in train} & {q.prompt for q in test}
    # Their layout is recognised by the options: an answer that is none of them is refused.
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([rows[0] | {"answer": "Z"}, *rows[1:]]))
    with pytest.raises(ValueError, match="answer"):
        load_questions(str(path))


def test_the_checkpoint_is_a_qwen3_with_the_shipped_weights(example, tmp_path):
    folder = example.small_checkpoint(tmp_path)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "qwen3"
    written = models.load_pretrained(folder)
    shipped = models.load_pretrained(FILE.parents[1] / "pgpo_jax" / "assets" / "tiny")
    np.testing.assert_array_equal(written.embedding[...], shipped.embedding[...])
    assert np.std(written.embedding[...]) > 0


@pytest.mark.slow
def test_the_small_run_trains(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    space = run_cells(FILE, cells)
    before, *steps, after = space["rows"]
    # Random weights or a wrong tokenizer would be right in next to none of the answers.
    assert min(before["eval/accuracy"], after["eval/accuracy"]) > 0.2
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    for step in steps:
        assert step["pgpo/rho"] == pytest.approx(np.exp(step["pgpo/information"]), rel=1e-5)
        assert step["pgpo/information"] > 0.01
    assert steps[1]["optimizer/update_norm"] > 0
    told = capsys.readouterr().out
    assert f"step 4: accuracy {after['eval/accuracy']:.2f}" in told
    assert "alpha 1.0 and rho_max 2.0" in told
