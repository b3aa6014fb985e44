"""What `benchmarks.peers` asks of its sides, refuses, and makes of their seconds. No torch here."""

import json
import sys

import numpy as np
import pytest

from benchmarks import _peer_environment, _peer_step, peers
from benchmarks._batch import grouped_batch
from benchmarks._child import Child, taking_turns
from benchmarks._grouped_tokens import grouped_tokens
from benchmarks._peer_cell import Cell, Setting, record_of, side_of
from benchmarks._peer_environment import check_compiler, interpreter
from benchmarks._peer_table import markdown, ratios
from benchmarks._trl_steps import __file__ as trl_steps

SHAPE = {"rows": 4, "questions": 2, "prompt": 3, "teacher_prompt": 5, "response": 2}
ANSWERING = """
import json, sys
print(json.dumps({}), flush=True)
for line in sys.stdin:
    turn = json.loads(line)["turn"]
    if turn == int(sys.argv[2]):
        sys.exit()
    open(sys.argv[3], "a").write(sys.argv[1])
    print(json.dumps({"seconds": turn + 1.0}), flush=True)
"""


def recorded(**more):
    """The record of one cell, with round numbers."""
    sides = {
        "pgpo": {"seconds": [1.0, 2.0, 4.0], "peak_mb": 300.0},
        "TRL": {"seconds": [3.0, 4.0, 4.0], "peak_mb": 600.0},
    }
    cell = {"part": "step", "cell": "8k-top100", "title": "vocabulary 8k", "ours": ["pgpo"]}
    cell |= {"made": None, "rounds": 3, "date": "2026-11-30", "load": [0.2, 1.5]}
    machine = {"processor": "a processor", "cores": 2}
    return {"machine": machine, "rounds": 3, "cells": [cell | {"sides": sides} | more]}


def test_a_ratio_is_within_a_round():
    # The ratio of the medians of the second pair would be 2, and its rounds tell 4, 2 and 0.75.
    assert ratios([3.0, 4.0, 4.0], [1.0, 2.0, 4.0]) == (2.0, 1.0, 3.0)
    assert ratios([4.0, 4.0, 3.0], [1.0, 2.0, 4.0]) == (2.0, 0.75, 4.0)
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_the_table_of_a_recorded_file(tmp_path, capsys):
    file = tmp_path / "peers.json"
    file.write_text(json.dumps(recorded()))
    assert peers.main(["--table", str(file)]) == 0
    text = capsys.readouterr().out
    assert "| vocabulary 8k | pgpo | 2 (1 to 4) | 300 |  |  |" in text
    assert "| vocabulary 8k | TRL | 4 (3 to 4) | 600 | 2 (1 to 3) | 0.50 |" in text
    assert "a processor, 2 cores, 2026-11-30, rounds: 3, load 0.2 to 1.5." in text
    # A part without a cell has no table, and things made give a rate.
    assert "`generate`" not in text
    assert "| 50 |" in markdown(recorded(made=[100, "tokens"]))
    assert "| 50 |" not in text


def test_the_first_round_is_no_part_of_the_seconds():
    answers = [{"seconds": s, "loss": s, "peak_mb": s} for s in (9.0, 2.0, 3.0)]
    side = {"seconds": [2.0, 3.0], "first_seconds": 9.0, "first_loss": 9.0, "peak_mb": 3.0}
    assert side_of(answers) == side


def children(tmp_path, fails):
    command = [sys.executable, "-c", ANSWERING]
    log = str(tmp_path / "turns")
    return {name: Child([*command, name, str(fails if name == "B" else -1), log]) for name in "ABC"}


def test_processes_take_turns_and_a_failure_is_named(tmp_path):
    sides = children(tmp_path, fails=-1)
    answers = taking_turns(sides, 3)
    for side in sides.values():
        side.close()
    assert (tmp_path / "turns").read_text() == "ABCBCACABABC"
    assert [answer["seconds"] for answer in answers["C"]] == [1.0, 2.0, 3.0, 4.0]
    sides = children(tmp_path, fails=1)
    with pytest.raises(RuntimeError, match="B: the process ended"):
        taking_turns(sides, 3)
    for side in sides.values():
        side.close()


def test_all_rows_of_a_question_have_its_prompt_on_both_sides():
    found = grouped_tokens(50, **SHAPE)
    shared, each = (grouped_batch(50, SHAPE, share=share) for share in (True, False))
    assert shared.prompt.shape == (2, 3)
    assert shared.teacher_prompt.shape == (4, 5)
    for prompt in ("prompt", "teacher_prompt"):
        rows = found[prompt][found[f"{prompt}_owner"]]
        np.testing.assert_array_equal(getattr(each, prompt), rows)
        owner = getattr(shared, f"{prompt}_owner")
        np.testing.assert_array_equal(getattr(shared, prompt)[owner], rows)
    # The response that is shown to the others has another teacher prompt than they.
    assert (each.teacher_prompt[0] != each.teacher_prompt[1]).any()
    # The control: without groups every row has a prompt of its own.
    alone = grouped_tokens(50, **(SHAPE | {"questions": 4}))
    assert alone["prompt_owner"].tolist() == alone["teacher_prompt_owner"].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="must divide rows = 4, got 3"):
        grouped_tokens(50, **(SHAPE | {"questions": 3}))


def test_every_side_of_a_step_is_given_the_same_work(tmp_path):
    found = _peer_step.commands(tmp_path, "full", "python-with-trl")
    ours, shared, eager, compiled = found.values()
    assert eager == ["python-with-trl", trl_steps, str(tmp_path), ours[-1], "eager"]
    assert compiled == [*eager[:-1], "compiled"]
    assert json.loads(shared[-1]) == json.loads(ours[-1]) | {"share_prompts": True}
    assert json.loads(ours[-1])["support"] == "full"


def test_losses_that_differ_are_refused():
    sides = {"a": {"first_loss": 0.05}, "b": {"first_loss": 0.050001}}
    _peer_step.check_same_loss(sides)
    with pytest.raises(RuntimeError, match="losses of the first step must agree"):
        _peer_step.check_same_loss(sides | {"c": {"first_loss": 0.06}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--resume"], "--resume needs --json"),
        (["--only", "gpu"], "invalid choice: 'gpu'"),
        (["--cells", "16k"], "invalid choice: '16k'"),
        (["--only", "sample", "--cells", "help"], "no cell of ['help'] is in ['sample']"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        peers.parse(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_cells_are_chosen():
    assert len(peers.parse([]).chosen) == len(peers.CELLS) == 13
    assert [cell.name for cell in peers.parse(["--only", "start"]).chosen] == ["help", "token"]
    assert [cell.name for cell in peers.parse(["--cells", "euler"]).chosen] == ["euler"]
    everything = list(peers.CELLS.values())
    assert peers.minutes(everything, 7) > peers.minutes(everything, 3) > 0


@pytest.fixture
def quick(monkeypatch):
    """One cell without a process, and an environment that is there."""
    sides = {"ours": {"seconds": [1.0]}, "theirs": {"seconds": [2.0]}}
    measured = []

    def measure(setting):
        measured.append(setting)
        return sides, {"jax": "1"}

    cell = Cell("start", "help", "help", 1.0, 1.0, ("ours",), measure)
    monkeypatch.setattr(peers, "CELLS", {"help": cell})
    monkeypatch.setattr(peers, "interpreter", lambda folder: f"{folder}/bin/python")
    return measured


def test_a_run_goes_on_with_what_its_file_lacks(quick, tmp_path, capsys):
    file = tmp_path / "peers.json"
    run = ["--json", str(file), "--rounds", "1", "--environment", "e"]
    assert peers.main(run) == 0
    assert "theirs | 2 (2 to 2) | 2 (2 to 2)" in capsys.readouterr().out
    assert (quick[0].python, quick[0].rounds) == ("e/bin/python", 1)
    # Nothing is written over, and nothing is measured twice.
    assert peers.main(run) == 2
    assert "must not exist without --resume" in capsys.readouterr().err
    assert peers.main([*run, "--resume"]) == 0
    assert len(quick) == 1
    assert peers.main([*run[:2], "--rounds", "5", "--resume"]) == 2
    assert "needs the machine, the versions and the rounds" in capsys.readouterr().err
    # The control: a file without the cell is gone on with.
    file.write_text(json.dumps(json.loads(file.read_text()) | {"cells": []}))
    assert peers.main([*run, "--resume"]) == 0
    assert len(quick) == 2


def test_a_record_says_when_and_with_what(quick, tmp_path):
    (cell,) = peers.CELLS.values()
    record = record_of(cell, Setting("python", tmp_path, 1))
    assert record["versions"] == {"jax": "1"}
    assert (record["rounds"], len(record["load"]), len(record["date"])) == (1, 2, 10)


def test_an_environment_that_cannot_be_made_is_a_clear_error(tmp_path, monkeypatch, capsys):
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("no-such-file-of-a-package.whl\n")
    with pytest.raises(RuntimeError, match=r"pip install .* ended with 1: .*no-such-file"):
        interpreter(tmp_path / "environment", wanted)
    assert not (tmp_path / "environment" / ".installed").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data").write_text("")
    refused = ["--only", "ensemble", "--environment", str(tmp_path / "mine")]
    assert peers.main(refused) == 2
    assert "--environment must be an environment or empty" in capsys.readouterr().err
    # A file in the way.
    assert peers.main([*refused[:-1], str(tmp_path / "mine" / "data" / "x")]) == 2
    assert "cannot be made" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RuntimeError, match=r"needs a C\+\+ compiler"):
        check_compiler()


def test_an_environment_is_made_once(tmp_path, monkeypatch):
    wanted, ran = tmp_path / "requirements.txt", []
    wanted.write_text("torch==1\n")

    def run(command, folder):
        ran.append(command)
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        for name in ("pyvenv.cfg", "bin/python"):
            (folder / name).touch()

    monkeypatch.setattr(_peer_environment, "_run", run)
    python = interpreter(tmp_path / "environment", wanted)
    assert python == str(tmp_path / "environment" / "bin" / "python")
    assert [command[1:3] for command in ran] == [["-m", "venv"], ["-m", "pip"], ["-c", ran[2][2]]]
    assert ran[1][-2:] == ["--requirement", str(wanted)]
    assert interpreter(tmp_path / "environment", wanted) == python
    assert len(ran) == 3
    # Other versions are installed anew.
    wanted.write_text("torch==2\n")
    interpreter(tmp_path / "environment", wanted)
    assert len(ran) == 6


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON"])
def test_a_table_of_something_else_is_refused_in_a_line(tmp_path, capsys, text):
    (tmp_path / "other.json").write_text(text)
    assert peers.main(["--table", str(tmp_path / "other.json")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("peers: error: ")
    assert len(told.splitlines()) == 1


def test_a_record_that_cannot_be_written_is_refused_first(tmp_path, capsys):
    with pytest.raises(SystemExit):
        peers.parse(["--json", str(tmp_path / "nowhere" / "x.json")])
    assert "--json must be in a folder that is there" in capsys.readouterr().err
