"""Run folders: config.json, metrics.jsonl, evaluations.jsonl and kept texts."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from pgpo_jax.reports import read_run
from pgpo_jax.reports._kept_row import parse_question, parse_text
from pgpo_jax.reports._run_summary import summary
from pgpo_jax.training import PRESETS, read_config, read_jsonl
from tests.fuzz.conftest import damaged, fuzzed, refused, texts, values

DATA = Path(__file__).parents[1] / "reports" / "data"
CONFIG = json.loads(json.dumps(PRESETS["tiny"].to_json()))
FORMER = json.loads((DATA / "pgpo" / "config.json").read_text())
METRICS = [json.loads(line) for line in (DATA / "pgpo" / "metrics.jsonl").read_text().splitlines()]
SCORES = [
    json.loads(line) for line in (DATA / "pgpo" / "evaluations.jsonl").read_text().splitlines()
]
KEPT = [json.loads(line) for line in (DATA / "texts" / "texts.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    shutil.copytree(DATA / "pgpo", folder)
    return folder


def write(path, text):
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


@fuzzed
@given(text=(damaged(CONFIG) | damaged(FORMER) | values).map(json.dumps) | texts)
def test_configurations(folder, text):
    write(folder / "config.json", text)
    refused(lambda: read_config(folder))


@fuzzed
@given(data=st.binary(max_size=60))
def test_configurations_of_bytes(folder, data):
    (folder / "config.json").write_bytes(data)
    assert refused(lambda: read_config(folder)) or data.strip(b"\xef\xbb\xbf \n\r\t") == b"{}"


@fuzzed
@given(
    rows=st.lists(st.sampled_from(METRICS).flatmap(damaged) | st.sampled_from(METRICS), max_size=4),
    scores=st.lists(st.sampled_from(SCORES).flatmap(damaged) | st.sampled_from(SCORES), max_size=2),
    rest=st.just("") | texts,
)
def test_metrics(folder, rows, scores, rest):
    write(folder / "config.json", json.dumps(FORMER))
    write(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + rest)
    write(folder / "evaluations.jsonl", "".join(json.dumps(row) + "\n" for row in scores))
    refused(lambda: read_jsonl(folder / "metrics.jsonl"))
    refused(lambda: summary([read_run(folder)]))


@fuzzed
@given(text=st.sampled_from(KEPT).flatmap(damaged).map(json.dumps) | texts)
def test_kept_texts(text):
    refused(lambda: parse_text(text, "texts.jsonl, line 1"))
    refused(lambda: parse_question(text, "questions.jsonl, line 1"))


def test_what_is_whole_is_read(folder):
    """The control: the readers do not refuse everything."""
    write(folder / "config.json", json.dumps(CONFIG))
    assert not refused(lambda: read_config(folder))
    assert not refused(lambda: parse_text(json.dumps(KEPT[0]), "line 1"))
    assert not refused(lambda: summary([read_run(DATA / "pgpo")]))
