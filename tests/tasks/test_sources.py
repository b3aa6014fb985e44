"""Questions from files: every layout, every column, every refusal."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

from pgpo_jax.errors import PGPOError, PGPOImportError, PGPOValueError
from pgpo_jax.tasks import ColumnsConfig, Message, load_questions

ROWS = [
    {"question": "1 + 1?", "answer": 2, "level": "easy"},
    {"question": "Odd \u2028 text?", "answer": "Ada", "level": None},
]


def lines(rows):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def write(path, rows):
    """The rows in the form that the name asks for."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    else:
        path.write_text(lines(rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def asked(tmp_path):
    """The questions of rows, written as JSON lines."""

    def questions(*rows, **columns):
        path = tmp_path / "q.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return load_questions(str(path), columns=ColumnsConfig(**columns))

    return questions


@pytest.fixture
def refusal(asked):
    """The message with which rows are refused."""

    def message(*rows, **columns):
        with pytest.raises(PGPOError) as caught:
            asked(*rows, **columns)
        return str(caught.value)

    return message


@pytest.mark.parametrize("name", ["sums.jsonl", "sums.json", "sums.parquet", "SUMS.JSONL"])
def test_each_kind_of_file_gives_the_same_questions(tmp_path, name):
    rows = [dict(row, answer=str(row["answer"])) for row in ROWS]
    first, second = load_questions(write(tmp_path / name, rows))
    stem = name.partition(".")[0]
    assert (first.id, first.domain, first.system) == (f"{stem}-0", stem, "")
    assert (first.prompt, first.answer, first.columns) == ("1 + 1?", "2", {"level": "easy"})
    assert (second.id, second.answer, second.prompt) == (f"{stem}-1", "Ada", "Odd \u2028 text?")


def test_a_json_file_may_hold_lines(tmp_path):
    path = tmp_path / "q.json"
    path.write_text(lines(ROWS))
    assert [q.answer for q in load_questions(str(path))] == ["2", "Ada"]


def test_a_file_called_after_its_split_has_the_domain_of_its_folder(tmp_path):
    folder = tmp_path / "sums"
    folder.mkdir()
    for name, domain in (("train", "sums"), ("geometry", "geometry")):
        (question, _) = load_questions(write(folder / f"{name}.jsonl", ROWS))
        assert (question.id, question.domain) == (f"{name}-0", domain)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["unix", "windows"])
def test_files_of_other_systems(tmp_path, bom, end):
    path = tmp_path / "q.jsonl"
    path.write_bytes(bom + lines(ROWS).encode().replace(b"\n", end))
    assert [q.answer for q in load_questions(str(path))] == ["2", "Ada"]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("3", "3"),
        ("3.0", "3"),
        ("-2.50", "-2.5"),
        ("1e22", "1e+22"),
        ("1" + "0" * 400, "1" + "0" * 400),
        ('"3.0"', "3.0"),
        ('" B "', " B "),
        ('""', ""),
    ],
)
def test_answers_become_text(tmp_path, written, text):
    path = tmp_path / "q.jsonl"
    path.write_text(f'{{"question": "?", "answer": {written}}}')
    assert load_questions(str(path))[0].answer == text


def test_numbers_of_parquet_are_those_of_json(tmp_path):
    rows = [{"question": "?", "answer": value} for value in (3.0, 2.5, 1e22)]
    found = [
        [q.answer for q in load_questions(write(tmp_path / name, rows))]
        for name in ("q.jsonl", "q.parquet")
    ]
    assert found[0] == found[1] == ["3", "2.5", "1e+22"]


@pytest.mark.parametrize("value", [None, True, [1], {"a": 1}, float("nan"), float("inf"), "\ud800"])
def test_what_is_no_answer(refusal, value):
    message = refusal(ROWS[0], {"question": "?", "answer": value})
    assert "q.jsonl: line 2: field 'answer' must be" in message


@pytest.mark.parametrize("name", ["tests", "test_list", "test"])
def test_rows_with_tests_need_no_answer(asked, refusal, name):
    tests = ["assert f(1) == 2"]
    for row in ({"prompt": "f?", name: tests}, {"prompt": "f?", "answer": None, name: tests}):
        (question,) = asked(row)
        assert (question.answer, question.columns[name]) == ("", tests)
    for nothing in ([], "", "-", None):
        message = refusal({"prompt": "f?", name: tests}, {"prompt": "f?", name: nothing})
        assert f"line 2: field '{name}' must hold tests" in message
        message = refusal({"prompt": "f?", "answer": None, name: nothing})
        assert "line 1: field 'answer' must be" in message


@pytest.mark.parametrize("name", ["question", "prompt", "problem", "instruction", "query"])
@pytest.mark.parametrize("answer", ["answer", "final_answer", "ground_truth", "target"])
def test_usual_names_need_no_flag(asked, name, answer):
    (question,) = asked({name: "1 + 1?", answer: "2"})
    assert (question.prompt, question.answer, question.columns) == ("1 + 1?", "2", {})


def test_every_role_is_found_and_can_be_named(asked):
    usual = {
        "question": "1 + 1?",
        "answer": "2",
        "id": "one",
        "system": "Be brief.",
        "domain": "sums",
        "kind": 3,
        "solution": "1 + 1 = 2",
        "demonstration": "It is 2.",
        "feedback": "Count.",
    }
    (first,) = asked(usual)
    expected = ("one", "sums", "Be brief.", "1 + 1?", "2", "3", "1 + 1 = 2", "It is 2.", "Count.")
    fields = ("id", "domain", "system", "prompt", "answer", "kind")
    fields += ("solution", "demonstration", "feedback")
    assert tuple(getattr(first, name) for name in fields) == expected
    assert first.columns == {}
    renamed = {f"x_{name}": value for name, value in usual.items()} | {"answer": "no", "id": "no"}
    (second,) = asked(renamed, **{name: f"x_{name}" for name in usual})
    assert tuple(getattr(second, name) for name in fields) == expected
    assert second.columns == {"answer": "no", "id": "no"}


def test_the_empty_name_means_no_column(asked, refusal):
    rows = [{"question": "?", "answer": "2", "solution": ["no text"], "id": 1}] * 2
    message = refusal(*rows)
    assert "field 'solution' must be a string" in message
    first, second = asked(*rows, solution="", id="")
    assert (first.solution, first.columns["solution"], second.id) == (None, ["no text"], "q-1")
    (question,) = asked({"question": "Write a poem."}, answer="")
    assert question.answer == ""
    assert "--columns.answer" in refusal({"question": "Write a poem."})


@pytest.mark.parametrize(
    ("row", "flag"),
    [
        ({"question": "?", "prompt": "?", "answer": "2"}, "--columns.question"),
        ({"question": "?", "answer": "2", "target": "2"}, "--columns.answer"),
        ({"question": "?", "answer": "2", "id": 1, "idx": 1}, "--columns.id"),
        (
            {"question": "?", "answer": "2", "messages": []},
            "--columns.question or --columns.messages",
        ),
    ],
)
def test_two_candidates_ask_for_the_flag(asked, refusal, row, flag):
    message = refusal(row)
    assert "both" in message
    assert flag in message
    role = flag.split(".")[1].split()[0]
    assert asked(row, **{role: role})[0].answer == "2"


def test_candidates_in_different_rows_are_two_candidates(refusal):
    assert "both 'question' and 'prompt'" in refusal(
        {"question": "?", "answer": "2"}, {"prompt": "?", "answer": "2"}
    )


def test_columns_that_are_missing_are_told_all_at_once(refusal):
    message = refusal({"text": "?", "gold": "2"}, id="name")
    for part in ("--columns.question", "--columns.answer", "--columns.id names 'name'"):
        assert part in message
    assert "the columns are ['text', 'gold']" in message


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"question": "a", "messages": "b"}, "columns.question and columns.messages"),
        ({"question": "a", "answer": "a"}, "columns.question and columns.answer must differ"),
    ],
)
def test_settings_that_contradict_each_other(columns, message):
    with pytest.raises(ValueError, match=message):
        ColumnsConfig(**columns)
    assert ColumnsConfig(question="a", answer="b", id="").chosen()["id"] == ""


def test_columns_are_flags():
    import tyro

    @dataclasses.dataclass(frozen=True)
    class Config:
        columns: ColumnsConfig = dataclasses.field(default_factory=ColumnsConfig)

    flags = ["--columns.question", "text", "--columns.id", "", "--columns.system-prompt", "Brief."]
    expected = ColumnsConfig(question="text", id="", system_prompt="Brief.")
    assert tyro.cli(Config, args=flags).columns == expected
    assert tyro.cli(Config, args=[]).columns == ColumnsConfig() != expected


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "And 2 + 2?"},
]


@pytest.mark.parametrize("column", ["messages", "conversations", "prompt", "question"])
@pytest.mark.parametrize("name", ["q.jsonl", "q.parquet"])
def test_chats(tmp_path, column, name):
    path = write(tmp_path / name, [{column: CHAT, "answer": "4"}])
    (question,) = load_questions(path)
    assert question.messages == tuple(Message(**turn) for turn in CHAT)
    assert (question.system, question.prompt) == ("Be brief.", "And 2 + 2?")
    assert question.columns == {}


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        (CHAT[:3], "end with a user message"),
        ([*CHAT, CHAT[0], CHAT[1]], "system message must be the first"),
        ([], "list of messages"),
        ("1 + 1?", "list of messages"),
        ([{"role": "tool", "content": "2"}], "message 1: .*role must be one of"),
        ([{"role": ["user"], "content": "2"}], "message 1: 'role' must be a string"),
        ([CHAT[1], {"from": "human", "value": "?"}], r"message 2: .*got \['from', 'value'\]"),
        ([{"role": "user", "content": None}], "message 1: must have the fields"),
        ([{"role": "user", "content": [{"text": "?"}]}], "'content' must be a string"),
        ([{"role": "user", "content": "?", "tool_calls": [1]}], "fields 'role' and 'content' only"),
        ([{"role": "user", "content": "  "}], "must not be blank"),
        (["1 + 1?"], "message 1: must be an object"),
    ],
)
def test_chats_that_are_refused(refusal, chat, message):
    found = refusal({"messages": [CHAT[1]], "answer": "2"}, {"messages": chat, "answer": "4"})
    assert re.fullmatch(rf".*q\.jsonl: line 2: field 'messages' .*{message}.*", found)


def test_a_chat_and_a_system_column(asked, refusal):
    row = {"prompt": CHAT[1:], "system": "Be kind.", "answer": "4"}
    assert asked(row)[0].messages[0] == Message("system", "Be kind.")
    assert "both have a system message" in refusal({**row, "prompt": CHAT})


def test_an_own_system_prompt_replaces_those_of_the_rows(asked, tmp_path):
    rows = [{"question": "?", "answer": "2"}, {"question": "?", "answer": "2", "system": "Old."}]
    assert [q.system for q in asked(*rows)] == ["", "Old."]
    assert [q.system for q in asked(*rows, system_prompt="New.")] == ["New.", "New."]
    assert [q.system for q in asked(*rows, system_prompt="")] == ["", ""]
    chat = {"messages": CHAT, "answer": "4"}
    assert asked(chat, system_prompt="New.")[0].messages[:2] == (
        Message("system", "New."),
        Message(**CHAT[1]),
    )


@pytest.mark.parametrize(
    ("ids", "texts"), [([7, 8], ["7", "8"]), ([7.0, 8.0], ["7", "8"]), (["a", "b"], ["a", "b"])]
)
def test_ids_are_the_texts_of_the_column(asked, ids, texts):
    rows = [{"question": "?", "answer": "2", "idx": id} for id in ids]
    assert [q.id for q in asked(*rows)] == texts


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"id": None}, r"line 2: field 'id' must be .*got None"),
        ({}, r"line 2: field 'id' must be .*got nothing"),
        ({"id": " "}, r"line 2: field 'id' must not be blank"),
        ({"id": True}, r"line 2: field 'id' must be"),
        ({"id": 1}, r"line 2: field 'id' repeats that of .*q\.jsonl: line 1"),
        ({"id": "1"}, r"line 2: field 'id' repeats that of .*q\.jsonl: line 1"),
    ],
)
def test_ids_that_are_refused(asked, refusal, bad, message):
    row = {"question": "?", "answer": "2"}
    assert re.search(message, refusal({**row, "id": 1}, {**row, **bad}))
    assert len(asked({**row, "id": 1}, {**row, "id": 2})) == 2


def test_all_wrong_fields_of_all_rows_are_told_at_once(tmp_path):
    rows = [
        {"question": "?", "answer": "2", "id": 1},
        {"question": 5, "answer": None, "id": 1, "solution": 3, "domain": []},
        [],
        {"question": " ", "answer": "2", "id": 4},
    ]
    path = tmp_path / "q.jsonl"
    path.write_text(lines(rows) + "{oops\n")
    with pytest.raises(PGPOValueError) as caught:
        load_questions(str(path))
    told = [text.removeprefix(f"{path}: ") for text in str(caught.value).split("\n")]
    starts = [
        "line 2: field 'answer' must be a string or a finite number, or the row must have tests, g",
        "line 2: field 'domain' must be a string or a finite number, got []",
        "line 2: field 'question' must be a string, got 5",
        "line 2: field 'solution' must be a string, got 3",
        "line 3: a row must be a JSON object, got list",
        "line 4: field 'question' must not be blank",
        "line 5: not valid JSON: Expecting property name",
    ]
    assert len(told) == len(starts)
    for start, text in zip(starts, sorted(told), strict=True):
        assert text.startswith(start)


def test_at_most_twenty_wrong_rows_are_told(refusal):
    message = refusal(*[{"question": "?", "answer": [1]}] * 33)
    assert message.count("field 'answer'") == 20
    assert message.endswith("... and 13 more wrong rows")
    assert "more" not in refusal(*[{"question": "?", "answer": [1]}] * 20)


def test_long_values_are_cut_in_messages(refusal):
    assert len(refusal({"question": "?", "answer": [["x" * 9999] * 99]})) < 400


MANY_DIGITS = '{"question": "?", "answer": 1' + "0" * 5000 + "}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", b"", "at least one row, got none"),
        ("q.json", b"[]", "at least one row, got none"),
        ("q.jsonl", b"\xef\xbb\xbf \n", "at least one row, got none"),
        ("q.jsonl", b"\xff\xfe{\x00}\x00", "must be UTF-8 text"),
        ("q.json", b'{"question": "?"', r"line 1: not valid JSON: .* \(column"),
        ("q.json", b'[\n{"question": "?",\n]', r"q\.json: line 3: not valid JSON"),
        ("q.json", b"[1, 2]", "row 2: a row must be a JSON object, got int"),
        ("q.json", b'{\n "data": []\n}', "got one JSON object over several lines"),
        ("q.jsonl", b"null", "line 1: a row must be a JSON object, got NoneType"),
        ("q.jsonl", b'{"answer": 1, "answer": 2}', "line 1: .*'answer' comes twice"),
        ("q.jsonl", MANY_DIGITS.encode(), "line 1: not valid JSON"),
        ("q.jsonl", b'{"a":' * 99999, "line 1: not valid JSON: nested too deeply"),
        ("q.parquet", b"", "not a readable parquet file"),
        ("q.parquet", b"PAR1 but no more PAR1", "not a readable parquet file"),
        ("q.csv", b"question,answer\n", r"must end with \.json, \.jsonl or \.parquet"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PGPOValueError, match=message):
        load_questions(str(path))


def test_parquet_columns_with_one_name(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    columns = [pa.array(["?"]), pa.array(["1"]), pa.array(["2"])]
    path = tmp_path / "q.parquet"
    parquet.write_table(pa.table(columns, names=["question", "answer", "answer"]), path)
    with pytest.raises(PGPOValueError, match=r"\['answer'\] twice"):
        load_questions(str(path))


def test_an_empty_parquet_file(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "q.parquet"
    parquet.write_table(pa.table({"question": pa.array([], pa.string())}), path)
    with pytest.raises(PGPOValueError, match="at least one row"):
        load_questions(str(path))


def test_folders_called_like_values_make_no_columns(tmp_path):
    folder = tmp_path / "kind=odd"
    folder.mkdir()
    (question,) = load_questions(write(folder / "q.parquet", [{"question": "?", "answer": "2"}]))
    assert (question.kind, question.columns) == ("", {})


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("", ValueError, "name or path"),
        ("a\0b.json", ValueError, "without NUL"),
        ("x" * 5000 + ".json", ValueError, "path that can be read"),
        ("nowhere.jsonl", FileNotFoundError, "no question file at nowhere.jsonl"),
        ("data/nowhere.parquet", FileNotFoundError, "no question file at data/nowhere.parquet"),
        ("tasks.py:Task", ValueError, "call load_task"),
        ("other:physics", ValueError, "synthetic:DOMAIN"),
    ],
)
def test_specs_that_are_no_source(spec, error, message):
    with pytest.raises(error, match=message) as caught:
        load_questions(spec)
    assert isinstance(caught.value, PGPOError)


def test_a_folder_that_is_no_data_set(tmp_path):
    write(tmp_path / "q.jsonl", ROWS)
    with pytest.raises(ValueError, match="save_to_disk"):
        load_questions(str(tmp_path))


def test_columns_of_synthetic_questions():
    with pytest.raises(ValueError, match="must not be given for synthetic"):
        load_questions("synthetic:physics", columns=ColumnsConfig(answer="x"))
    assert load_questions("synthetic:physics", columns=ColumnsConfig())[0].domain == "physics"


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch):
    path = write(tmp_path / "q.parquet", [{"question": "?", "answer": "2"}])
    assert len(load_questions(path)) == 1
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PGPOImportError, match=r"pip install 'pgpo-jax\[data\]'"):
        load_questions(path)


def test_sciknoweval_is_recognised_and_can_be_switched_off(tmp_path):
    folder = tmp_path / "physics"
    folder.mkdir()
    row = {
        "idx": 7,
        "kind": "mcq",
        "system": "",
        "prompt": "How far?\nA: 2 m\nB: 6 m",
        "dataset": "x",
    }
    path = write(folder / "train.jsonl", [{**row, "answer": "B"}])
    (question,) = load_questions(path)
    assert (question.id, question.kind, question.columns) == ("physics-7", "mcq", {"dataset": "x"})
    (question,) = load_questions(path, columns=ColumnsConfig(question="prompt"))
    assert question.id == "7"
    wrong = write(folder / "wrong.jsonl", [{**row, "answer": "6 m"}])
    with pytest.raises(ValueError, match=r"option letters \['A', 'B'\], got '6 m'"):
        load_questions(wrong)
    assert load_questions(wrong, columns=ColumnsConfig(answer="answer"))[0].answer == "6 m"


def test_a_prompt_without_options_is_no_sciknoweval(asked):
    rows = [{"system": "", "prompt": f"Q: {i} + 1?\nA: ", "answer": i + 1} for i in range(3)]
    assert [q.answer for q in asked(*rows)] == ["1", "2", "3"]


def test_files_need_no_heavy_library(tmp_path):
    write(tmp_path / "q.jsonl", ROWS)
    code = "import sys; from pgpo_jax.tasks import load_questions; load_questions('q.jsonl'); "
    code += "print(sorted({'datasets', 'pyarrow', 'huggingface_hub'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
