"""The loader of SciKnowEval files: both layouts, and every refusal."""

import json

import pytest

from pgpo_jax.tasks import load_questions, load_sciknoweval

ROW = {
    "idx": 7,
    "kind": "mcq",
    "answer": "B",
    "system": "\nPick one.\n",
    "prompt": "How far?\n\nA: 2 m\nB: 6 m\nPlease reason step by step.",
}


def write(tmp_path, text, name="train.json"):
    folder = tmp_path / "physics"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("layout", ["lines", "array"])
def test_both_layouts_give_the_same_questions(tmp_path, layout):
    rows = [ROW, ROW | {"idx": 8, "prompt": "Odd \u2028 text?\nA: 1\nB: 2", "answer": "A"}]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n"
    path = write(tmp_path, lines if layout == "lines" else json.dumps(rows, indent=1))
    first, second = load_questions(str(path))
    assert (first.id, first.domain, first.answer) == ("physics-7", "physics", "B")
    assert (first.system, first.prompt) == (ROW["system"], ROW["prompt"])
    assert "\u2028" in second.prompt


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**ROW, "answer": "C"}, r"line 2: field 'answer' .*\['A', 'B'\].*'C'"),
        ({**ROW, "answer": "b"}, r"line 2: field 'answer'"),
        ({**ROW, "answer": None}, r"line 2: field 'answer' must be a string, got None"),
        ({k: v for k, v in ROW.items() if k != "prompt"}, r"line 2: field 'prompt' .*nothing"),
        ({**ROW, "prompt": " "}, r"line 2: field 'prompt' must not be blank"),
        ({**ROW, "idx": 1}, r"line 2: field 'idx' repeats"),
        ([1], r"line 2: a row must be a JSON object, got list"),
    ],
)
def test_malformed_rows_are_refused_with_line_and_field(tmp_path, row, message):
    good = json.dumps({**ROW, "idx": 1})
    with pytest.raises(ValueError, match=message):
        load_sciknoweval(write(tmp_path, good + "\n" + json.dumps(row)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one row"),
        ("{oops", r"line 1: not valid JSON"),
        ("[{},", r"not valid JSON"),
    ],
)
def test_broken_files_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_sciknoweval(write(tmp_path, text))


def test_unreadable_sources_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        load_questions(str(tmp_path / "nowhere.json"))
    with pytest.raises(ValueError, match="synthetic:DOMAIN"):
        load_questions("sciknoweval:physics")
    binary = tmp_path / "b.json"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        load_sciknoweval(binary)
