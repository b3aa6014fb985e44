"""`pgpo inspect`: what is shown of a run, on any terminal, whatever the texts hold."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pgpo_jax.cli import main
from pgpo_jax.cli._terminal import cells, this_terminal, wrap

RUN = Path(__file__).parents[1] / "reports" / "data" / "texts"
OLD = RUN.parent / "pgpo"
EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\ud800<b>\r"
SGR = re.compile(r"\x1b\[[0-9;]+m")


@pytest.fixture
def run(tmp_path):
    """A copy of a recorded run, to be changed."""
    return Path(shutil.copytree(RUN, tmp_path / "run"))


@pytest.fixture
def show(capsys):
    """What `pgpo inspect` prints of a run."""

    def shown(*arguments, width=80):
        assert main(["inspect", *map(str, arguments), "--width", str(width)]) == 0
        return capsys.readouterr().out

    return shown


@pytest.fixture
def refusal(capsys):
    """The message with which `pgpo inspect` refuses."""

    def message(*arguments):
        assert main(["inspect", *map(str, arguments)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        return captured.err

    return message


def change(run, edit):
    rows = [json.loads(line) for line in (run / "texts.jsonl").read_text().splitlines()]
    for row in rows:
        edit(row)
    (run / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_step_with_all_that_is_known_of_it(show):
    text = show(RUN, "--step", 1, "--rows", 1)
    assert text.count("=== step") == 1
    for part in (
        "=== step 1, question synthetic-letters:all:train:0:0\n",
        "physics, current, right answer D\n",
        "--- system\nAnswer as <reasoning>...</reasoning>",
        "--- user\nA battery of 64 V drives 8 ohm.",
        "<reasoning>{Take|+0.47}{ difference|+1.08} 56 [A].</reasoning>↵\n<answer>A</answer>",
        "predicted A, score 0\n",
        '" difference"      3  +1.081       0.246      1.091      0.010\n',
        "  A battery of 64 V drives 8 ohm.",
        "+ Correct solution:\n",
        "+ <reasoning>Use quotient 8 [D].</reasoning>\n",
    ):
        assert part in text
    assert "\x1b" not in text


def test_the_newest_step_and_one_question(show):
    newest = show(RUN)
    assert newest.count("=== step 8, question synthetic-letters:all:train") == 2
    assert newest.count("=== step 8, question synthetic-letters:all:test") == 2
    assert newest.count("what the teacher was shown") == 2, "answers of evaluations have none"
    one = show(RUN, "--question", "synthetic-letters:all:train:0:1")
    assert one.count("=== step") == 1
    assert "=== step 1, question synthetic-letters:all:train:0:1\n" in one


def test_a_response_that_did_not_train(show):
    text = show(RUN, "--step", 7)
    assert "there are no numbers: the response did not train" in text
    assert "nothing: this response has no teacher prompt" in text


def test_answers_before_and_after_stand_beside_each_other(show):
    text = show(RUN, "--evaluation")
    assert text.count("=== question") == 2
    assert "step 0: predicted B, score 0           | step 8: predicted C, score 1\n" in text
    assert "<answer>B</answer>                     | <answer>C</answer>\n" in text
    assert "step 0: 0.52 [0.41, 0.63]" in text
    assert show(RUN, "--evaluation", "--rows", 1).count("=== question") == 1


@pytest.mark.parametrize("width", [40, 80, 133])
@pytest.mark.parametrize("colour", ["always", "never"])
def test_no_line_is_wider_than_the_terminal(run, show, width, colour):
    def lengthen(row):
        row["question"]["id"] = "q" * 300
        row["response"] = row["grade"]["feedback"] = "水" * 200 + " word" * 60
        if "tokens" in row:
            row["tokens"][0] = "x" * 500

    change(run, lengthen)
    for arguments in ((), ("--evaluation",)):
        for line in show(run, *arguments, "--color", colour, width=width).split("\n"):
            plain = SGR.sub("", line)
            # The numbers of a token need their columns.
            if not re.search(r"\d\.\d{3}$|^token |^[- ]+$", plain):
                assert cells(plain) <= width, plain


def test_colours_are_shown_on_request_only(show, monkeypatch):
    coloured = show(RUN, "--step", 1, "--color", "always")
    assert "\x1b[1;38;5;16;48;5;75m difference\x1b[0m" in coloured
    assert "\x1b[38;5;16;48;5;111mTake\x1b[0m" in coloured
    assert "0.3 ≤ I < 1" in coloured
    assert "{Take|" not in coloured
    assert "\x1b" not in show(RUN, "--step", 1)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert this_terminal("auto", None).colour
    assert not this_terminal("never", None).colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not this_terminal("auto", None).colour
    assert this_terminal("always", None).colour
    monkeypatch.setenv("NO_COLOR", "")
    assert this_terminal("auto", None).colour
    monkeypatch.setenv("TERM", "dumb")
    assert not this_terminal("auto", None).colour


def test_hostile_texts_are_shown_not_obeyed(run, show, refusal):
    def spoil(row):
        row["response"] = row["question"]["domain"] = row["question"]["kind"] = EVIL
        row["question"]["id"] = row["question"]["answer"] = EVIL
        row["grade"] = {"score": 0.5, "prediction": EVIL, "feedback": EVIL}
        for turn in row["question"]["messages"]:
            turn["content"] = EVIL
        if "tokens" in row:
            row["tokens"] = [EVIL] * len(row["tokens"])
            row["teacher_prompt"] = f"{EVIL} and {EVIL}"

    change(run, spoil)
    for arguments in ((), ("--evaluation",), ("--color", "always")):
        text = SGR.sub("", show(run, *arguments))
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\ud800", "\r"} & set(text)
        assert "\\x1b]0;title\\x07" in text
    assert SGR.sub("", EVIL) == EVIL, "the check removes nothing that it looks for"
    for question in ("absent", EVIL):
        message = refusal(run, "--step", 5, "--question", f"{question}!")
        assert not {"\x1b", "\x07", "\u202e"} & set(message)


def test_names_of_runs_are_shown_not_obeyed(tmp_path, capsys):
    folder = Path(shutil.copytree(RUN, tmp_path / "a\x1b[2Jb"))
    assert main(["report", str(folder), "--output", str(tmp_path / "r.html")]) == 0
    assert "a\\x1b[2Jb" in capsys.readouterr().out.splitlines()[2]
    (folder / "texts.jsonl").unlink()
    assert main(["inspect", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert "a\\x1b[2Jb keeps no texts" in error


def test_what_is_not_there_is_refused_with_what_there_is(refusal, tmp_path):
    assert "step 3 was not kept; there are the steps 0, 1, 5, 7, 8" in refusal(RUN, "--step", "3")
    message = refusal(RUN, "--question", "nobody")
    assert "no step has a kept response to 'nobody'" in message
    assert "synthetic-letters:all:train:0:112" in message
    assert "step 1 has a kept response" in refusal(RUN, "--step", "1", "--question", "nobody")
    assert "no answer to 'nobody'" in refusal(RUN, "--evaluation", "--question", "nobody")
    assert "there is no run in" in refusal(tmp_path)
    assert "keeps no texts" in refusal(OLD)
    assert "leave out --step" in refusal(RUN, "--evaluation", "--step", "1")
    assert "--rows must be at least 1, got 0" in refusal(RUN, "--rows", "0")
    assert "--width must be at least 40, got 39" in refusal(RUN, "--width", "39")


def test_files_that_no_run_writes_are_named(run, refusal):
    def damage(row):
        if "information" in row:
            row["information"].append(1.0)

    change(run, damage)
    message = refusal(run, "--step", "1")
    assert "texts.jsonl, line 3: information must have one number per token, 9, got 10" in message


def test_one_evaluation_has_nothing_to_be_compared_with(run, refusal):
    lines = (run / "texts.jsonl").read_text().splitlines()
    kept = [line for line in lines if '"step": 8, "split": "test"' not in line]
    (run / "texts.jsonl").write_text("\n".join(kept) + "\n")
    assert "there are those of the steps 0" in refusal(run, "--evaluation")


def test_numbers_that_are_missing_are_dashes(run, show):
    def empty(row):
        if "information" in row:
            row["divergence"] = [None] * len(row["tokens"])
            row["information"][0] = float("nan")
            del row["student_entropy"]

    change(run, empty)
    text = show(run, "--step", 1, "--rows", 1)
    assert re.search(r'" difference" +3 +\+1\.081 +- +0\.010\n', text)
    assert "student H" not in text


def test_wrapping():
    assert wrap([("aaa bbb", "1")], 5) == [[("aaa", "1")], [("bbb", "1")]]
    assert wrap([("abcdefg", "")], 3) == [[("abc", "")], [("def", "")], [("g", "")]]
    assert wrap([("a\n\nb", "")], 3) == [[("a", "")], [], [("b", "")]]
    assert wrap([("水水", "")], 3) == [[("水", "")], [("水", "")]]
    assert wrap([("水", "")], 1) == [[("水", "")]]
    assert cells("e\u0301") == 1


def pgpo(*arguments, errors, **variables):
    """`pgpo` in a process of its own, with its output in a pipe and its errors in a file."""
    environment = os.environ | variables
    command = [sys.executable, "-X", "importtime", "-m", "pgpo_jax", *arguments]
    with errors.open("w") as file:
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=file, text=True
        )


def test_a_pipe_that_closes_early_is_quiet_and_nothing_heavy_is_imported(run, tmp_path):
    text = (run / "texts.jsonl").read_text()
    # More than a pipe holds.
    (run / "texts.jsonl").write_text(text * 40)
    with pgpo("inspect", str(run), errors=tmp_path / "errors") as process:
        assert process.stdout is not None
        assert "a large |I|" in process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=60)
    errors = (tmp_path / "errors").read_text()
    complaints = [line for line in errors.splitlines() if not line.startswith("import time:")]
    assert complaints == []
    names = re.findall(r"^import time:.*\|\s*([\w.]+)$", errors, flags=re.MULTILINE)
    loaded = {name.partition(".")[0] for name in names}
    assert "tyro" in loaded
    assert loaded.isdisjoint({"flax", "orbax", "transformers", "diffrax", "matplotlib"})


def test_a_terminal_without_unicode_gets_escapes(tmp_path):
    options = {"errors": tmp_path / "errors", "PYTHONIOENCODING": "ascii"}
    with pgpo("inspect", str(RUN), "--step", "1", **options) as process:
        shown, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "\\u21b5" in shown
