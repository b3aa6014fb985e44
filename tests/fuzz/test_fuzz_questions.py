"""Files of questions in each layout."""

import json

import pytest
from hypothesis import given, strategies as st

from pgpo_jax.tasks import load_questions
from tests.fuzz.conftest import damaged, fuzzed, refused, texts

CHAT = [{"role": "system", "content": "s"}, {"role": "user", "content": "1 + 1?"}]
LAYOUTS = {
    "sciknoweval": {"system": "s", "prompt": "Q?\n\nA: 1\nB: 2", "answer": "A", "idx": 1},
    "question": {"question": "1 + 1?", "answer": "2", "id": "q", "kind": "k", "solution": "two"},
    "messages": {"messages": CHAT, "answer": "2"},
    "prompt": {"prompt": CHAT, "reward_model": {"ground_truth": "2"}, "extra_info": {"index": 3}},
    "code": {"question": "f", "answer": "", "tests": [{"input": "1", "output": "2"}]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(folder, layout):
    row = LAYOUTS[layout]

    @fuzzed
    @given(
        rows=st.lists(damaged(row) | st.just(row), min_size=1, max_size=3),
        kind=st.sampled_from(["lines", "array"]),
        rest=st.just("") | texts,
    )
    def check(rows, kind, rest):
        text = json.dumps(rows) if kind == "array" else "\n".join(map(json.dumps, rows))
        path = folder / "questions.jsonl"
        path.write_bytes((text + rest).encode("utf-8", "surrogatepass"))
        refused(lambda: load_questions(str(path)))

    check()


@fuzzed
@given(data=st.binary(max_size=80), suffix=st.sampled_from([".json", ".jsonl", ".parquet"]))
def test_bytes(folder, data, suffix):
    path = folder / f"bytes{suffix}"
    path.write_bytes(data)
    assert refused(lambda: load_questions(str(path)))


def test_what_is_whole_is_read(folder):
    """The control: the layouts themselves are read."""
    path = folder / "whole.jsonl"
    for layout in ("sciknoweval", "question", "messages"):
        path.write_text(json.dumps(LAYOUTS[layout]))
        assert not refused(lambda: load_questions(str(path)))
