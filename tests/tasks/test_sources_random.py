"""Any row at all gives either questions or an error of ours."""

import json

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from pgpo_jax.errors import PGPOError
from pgpo_jax.tasks import ColumnsConfig, Question, load_questions

NAMES = [
    "question",
    "prompt",
    "messages",
    "answer",
    "id",
    "idx",
    "system",
    "solution",
    "tests",
    "x",
]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
turns = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool"]),
        "content": st.text(max_size=3),
    }
)
chats = st.lists(turns | values, max_size=4)
rows = st.dictionaries(st.sampled_from(NAMES), values | chats, max_size=6)
good = st.fixed_dictionaries({"question": st.text(max_size=5) | chats, "answer": scalars})
option_rows = st.fixed_dictionaries(
    {
        "system": scalars,
        "prompt": st.just("?\nA: 1\nB: 2") | values,
        "answer": st.sampled_from(["A", "B", "C", None]),
    },
    optional={"idx": scalars, "kind": values},
)
CHECKED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def check(path, **columns):
    """Reads a file and says whether it was taken; anything but one of our errors is a failure."""
    questions, refusal = [], ""
    try:
        questions = load_questions(str(path), columns=ColumnsConfig(**columns))
    except PGPOError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith(str(path))
        return False
    assert questions
    assert all(type(question) is Question for question in questions)
    assert len({question.id for question in questions}) == len(questions)
    for question in questions:
        assert question.prompt.strip()
        for text in (question.id, question.system, question.prompt, question.answer):
            text.encode()
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("random")


@CHECKED
@given(st.lists(rows | good, max_size=4) | st.lists(good, max_size=3) | st.lists(option_rows))
def test_rows_in_json(folder, table):
    lines, array = folder / "q.jsonl", folder / "q.json"
    lines.write_text("\n".join(json.dumps(row) for row in table))
    array.write_text(json.dumps(table))
    taken = check(lines)
    assert check(array) == taken
    check(lines, question="x", answer="")


@CHECKED
@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
def test_bytes(folder, content):
    for name in ("b.jsonl", "b.json", "b.parquet"):
        (folder / name).write_bytes(content)
        check(folder / name)


cells = st.none() | st.text(max_size=4)
columns_of_texts = st.lists(
    st.fixed_dictionaries({"question": cells, "answer": cells | st.just("2"), "id": cells}),
    min_size=1,
    max_size=4,
)


@CHECKED
@given(columns_of_texts)
def test_parquet_agrees_with_json(folder, table):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    schema = pa.schema([(name, pa.string()) for name in ("question", "answer", "id")])
    parquet.write_table(pa.Table.from_pylist(table, schema), folder / "p.parquet")
    (folder / "p.json").write_text(json.dumps(table))
    taken = check(folder / "p.parquet")
    assert check(folder / "p.json") == taken
    if taken:
        first, second = (load_questions(str(folder / name)) for name in ("p.parquet", "p.json"))
        assert first == second


def test_the_check_sees_both_outcomes(folder):
    path = folder / "c.jsonl"
    path.write_text('{"question": "?", "answer": 1}')
    assert check(path)
    path.write_text('{"question": "?", "answer": [1]}')
    assert not check(path)
