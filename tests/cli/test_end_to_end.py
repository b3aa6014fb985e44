"""The commands on the shipped model itself."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from pgpo_jax.cli import main
from pgpo_jax.training import Policy, read_jsonl

SMALL = (
    *("--rollout.questions", "2", "--rollout.samples", "4", "--rollout.row-buckets", "1"),
    *("--evaluation.questions", "4", "--evaluation.samples", "2", "--evaluation.batch", "4"),
)
SYSTEM = "Given a question and four options, please select the right answer."


def questions_file(path: Path, count: int, words: int) -> Path:
    """Questions in the layout of SciKnowEval, longer than any synthetic one."""
    rows = [
        {
            "idx": i,
            "kind": "mcq",
            "dataset": "sciknoweval",
            "system": SYSTEM,
            "prompt": f"{'A long story. ' * words}What is {i} + 1?\n\n"
            f"A: {i}\nB: {i + 1}\nC: {i + 2}\nD: {i + 3}\nPlease reason step by step.",
            "answer": "B",
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two steps, and a third by `--resume`."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", *SMALL, "--steps", "2", "--output", str(folder)]) == 0
    assert main(["train", "--resume", "--steps", "3", "--output", str(folder)]) == 0
    return folder


@pytest.mark.slow
def test_train_and_resume(run, capsys):
    rows = read_jsonl(run / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]
    assert (run / "report.html").is_file()
    assert main(["train", *SMALL, "--steps", "3", "--output", str(run)]) == 2
    assert "holds a run already: pass --resume" in capsys.readouterr().err
    other = ["--resume", "--seed", "1", "--steps", "4", "--output", str(run)]
    assert main(["train", *other]) == 2
    assert "seed was 0, now 1" in capsys.readouterr().err


@pytest.mark.slow
def test_an_exported_model_is_a_model(run, tmp_path, capsys):
    folder = tmp_path / "model"
    assert main(["export", str(run), "--output", str(folder)]) == 0
    assert "student after 3 steps" in capsys.readouterr().out
    ask = ["--task", "synthetic:physics", "--samples", "2", "--max-response", "28"]
    shown = {}
    for model in ("tiny", str(folder)):
        assert main(["eval", "--model", model, *ask, "--questions", "4"]) == 0
        assert re.search(r"avg@2 0\.\d+, standard error 0\.\d+|avg@2 1\.0", capsys.readouterr().out)
        assert main(["sample", "--model", model, *ask]) == 0
        shown[model] = capsys.readouterr().out
        assert shown[model].count("--- answer ") == 2
        assert re.search(r"tokens, (right|wrong): ", shown[model])
    assert main(["export", str(run), "--output", str(folder)]) == 2
    assert "not an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "begins"),
    [
        (("eval", "--questions", "4", "--batch", "4", "--samples", "1"), "avg@1 "),
        # One answer more than is asked for, so that each shard has one.
        (("sample", "--samples", "3"), "=== "),
    ],
    ids=["eval", "sample"],
)
@pytest.mark.slow
def test_a_mesh_answers_as_one_device(command, begins, capsys, monkeypatch):
    seen, respond = [], Policy.respond

    def record(policy, params, *arguments, **settings):
        out = respond(policy, params, *arguments, **settings)
        seen.append((params, out))
        return out

    monkeypatch.setattr(Policy, "respond", record)
    shown = []
    for mesh in ((), ("--mesh.fsdp", "4", "--mesh.tensor", "2")):
        assert main([*command, "--max-response", "28", *mesh]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert shown[0].startswith(begins)
    (one, alone), (many, spread) = seen
    np.testing.assert_array_equal(alone.tokens, spread.tokens[: len(alone.tokens)])
    assert len(spread.tokens) == 4
    assert len({tuple(row) for row in alone.tokens.tolist()}) > 1
    held = [
        sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(params))
        for params in (one, many)
    ]
    assert held[1] < 1.2 * held[0] / 8


@pytest.mark.parametrize("command", ["eval", "sample"])
def test_narrow_computation_needs_no_wide_weights(command, monkeypatch):
    class Asked(Exception):
        pass

    def respond(policy, params, *arguments, **settings):
        raise Asked({leaf.dtype.name for leaf in jax.tree.leaves(params)})

    monkeypatch.setattr(Policy, "respond", respond)
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(Asked) as asked:
            main([command, "--dtype", dtype, "--questions", "4"])
        assert asked.value.args[0] == {dtype}


@pytest.mark.slow
def test_a_prompt_of_ones_own(capsys):
    ask = ["sample", "--prompt", "6 * 7", "--samples", "1", "--max-response", "8"]
    assert main(ask) == 0
    shown = capsys.readouterr().out
    assert "--- answer 1" in shown
    assert "right" not in shown
    assert main([*ask, "--max-prompt", "1"]) == 2
    assert "raise --max-prompt" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_of_long_questions(tmp_path, capsys):
    file = questions_file(tmp_path / "train.json", 4, words=100)
    questions_file(tmp_path / "test.json", 2, words=100)
    folder = str(tmp_path / "run")
    options = ["--task", str(file), *SMALL, "--evaluation.questions", "0", "--steps", "1"]
    assert main(["train", *options, "--output", folder]) == 0
    assert "preset tiny-file" in capsys.readouterr().out
    short = ["train", *options, "--output", folder + "2", "--rollout.max-prompt", "50"]
    assert main(short) == 2
    message = capsys.readouterr().err
    assert "at most 50 prompt tokens" in message
    assert "rollout.max_prompt" in message
    assert not Path(folder + "2").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("eval", "--model", "no/such/folder/here"), "no/such/folder/here"),
        (("eval", "--task", "synthetic:alchemy"), "alchemy"),
        (("sample", "--task", "absent.json"), "absent.json"),
        (("sample", "--samples", "0"), "got 1 and 0"),
        (("eval", "--questions", "-1"), "got -1"),
        (
            ("eval", "--mesh.fsdp", "4", "--batch", "6"),
            "--batch must be divisible by mesh.data * mesh.fsdp = 4, got 6",
        ),
        (("eval", "--mesh.fsdp", "16"), "needs 16 devices, there are 8"),
        (("eval", "--distributed.process-id", "1"), "coordinator is missing"),
        (("sample", "--mesh.fsdp", "16"), "needs 16 devices, there are 8"),
        (("sample", "--mesh.tensor", "3"), "'tensor' of size 3 must divide num_attention_heads"),
        (("export", "absent", "--output", "x"), "no run in absent"),
    ],
)
def test_bad_requests_are_one_line(arguments, named, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(list(arguments)) == 2
    message = capsys.readouterr().err
    assert named in message
    assert message.count("\n") == 1
