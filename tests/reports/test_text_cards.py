"""Kept texts on the report page."""

import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pgpo_jax.reports import write_run_report

DATA = Path(__file__).parent / "data"
RUN = DATA / "texts"
EVIL = '</pre></article><script>alert(1)</script><img src=x onerror=alert(2)>"\x1b[2J\x00\ud800'


@pytest.fixture
def run(tmp_path):
    """A copy of a recorded run, to be changed."""
    return Path(shutil.copytree(RUN, tmp_path / "run"))


class Reader(HTMLParser):
    """The tags, whether they are balanced, and titles and classes of the marked tokens."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.open, self.balanced = [], [], True
        self.spans: list[dict[str, str]] = []
        self.text = ""
        self.feed(html)
        self.balanced &= not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "span":
            self.spans.append({**dict(attrs), "text": ""})
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        self.balanced &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] == "span":
            self.spans[-1]["text"] += data


def page(folders, tmp_path, name="r.html"):
    runs = {f"run {i}": folder for i, folder in enumerate(folders)}
    return write_run_report(runs, tmp_path / name, command="pgpo").read_text(encoding="utf-8")


def change(run, edit):
    rows = [json.loads(line) for line in (run / "texts.jsonl").read_text().splitlines()]
    for row in rows:
        edit(row)
    write(run / "texts.jsonl", rows)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def kinds(html):
    """The first table of kinds: by kind, what stands in each column."""
    table = html[html.index("<h2>Accuracy by kind of question</h2>") :]
    table = table[: table.index("</table>")]
    found = {}
    for row in re.findall(r"<tr><td.*?</tr>", table):
        cells = re.findall(r'data-label="(.*?)"><div>(.*?)</div>', row)
        texts = {name: re.sub(r"<.*?>", "", text) for name, text in cells}
        found[texts["kind of question"]] = texts
    return found


def test_tokens_are_marked_by_their_information(tmp_path):
    read = Reader(page([RUN], tmp_path))
    assert read.balanced
    tokens = {span["text"]: span for span in read.spans if "title" in span}
    strongest = tokens[" difference"]
    assert strongest["class"] == "up-3"
    assert strongest["title"].startswith("I 1.081, divergence 0.246, student entropy 1.091")
    assert "class" not in tokens[" 56"]
    legend = [span["class"] for span in read.spans if span["text"] == "token"]
    assert legend == ["down-3", "down-2", "down-1", "up-1", "up-2", "up-3"]
    assert "0.3 ≤ I < 1" in read.text


def test_the_first_middle_and_last_step_are_shown_with_the_teachers_prompt(tmp_path):
    html = page([RUN], tmp_path)
    assert re.findall(r"<h3>Step (\d+)", html) == ["1", "1", "5", "5", "8", "8"]
    marked = re.findall(r"<mark>(.*?)</mark>", html, flags=re.DOTALL)
    assert len(marked) == 6
    assert all(text.startswith("\nCorrect solution:") for text in marked)
    assert "A battery of 64 V" not in "".join(marked)


def test_answers_before_and_after_and_accuracy_by_kind(tmp_path):
    html = page([RUN], tmp_path)
    after = html[html.index("Answers before and after") :]
    assert re.findall(r"<h4>Step (\d)</h4>", after) == ["0", "8", "0", "8"]
    assert "Use difference 86" in after
    assert "Use quotient 44" in after
    row = kinds(html)["codons"]
    assert row["before"].startswith("0.34 [")
    assert row["after"].startswith("0.94 [")
    assert row["difference"].startswith("0.59 [")


def test_runs_that_began_alike_share_a_table_of_kinds(run, tmp_path):
    rows = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    rows[-1]["scores"] = dict.fromkeys(rows[-1]["scores"], 0.25)
    write(run / "evaluations.jsonl", rows)
    row = kinds(page([RUN, run], tmp_path))["codons"]
    assert list(row) == ["kind of question", "questions", "before", "run 0", "run 1"]
    assert [row[name][:4] for name in ("before", "run 0", "run 1")] == ["0.34", "0.94", "0.25"]
    # Where they did not, each has its own.
    rows[0]["scores"] = dict.fromkeys(rows[0]["scores"], 0.5)
    write(run / "evaluations.jsonl", rows)
    html = page([RUN, run], tmp_path)
    assert html.count('data-label="kind of question"') == 2 * len(kinds(html))
    assert "run 1" not in kinds(html)["codons"]


@pytest.mark.slow
def test_a_run_without_texts_has_no_such_sections(tmp_path):
    html = page([DATA / "pgpo"], tmp_path)
    for title in ("Sampled responses", "Answers before and after", "by kind of question"):
        assert title not in html
        assert title in page([RUN], tmp_path)


def test_seconds_and_viscosity_are_not_compared(tmp_path):
    assert "seconds per step" in page([RUN], tmp_path)
    both = page([RUN, DATA / "pgpo"], tmp_path)
    assert "seconds per step" not in both
    assert "Viscosity" not in both
    assert both.count("<details open>") == 2, "the first run's responses and answers"


def test_same_runs_give_same_bytes(tmp_path):
    assert page([RUN], tmp_path) == page([RUN], tmp_path, "again.html")


def test_hostile_texts_are_inert_and_shown(run, tmp_path):
    def spoil(row):
        row["response"] = row["question"]["domain"] = row["question"]["id"] = EVIL
        row["question"]["kind"] = row["question"]["answer"] = EVIL
        row["grade"] = {"score": 0.5, "prediction": EVIL, "feedback": EVIL}
        for turn in row["question"]["messages"]:
            turn["content"] = EVIL
        if "tokens" in row:
            row["tokens"] = [EVIL] * len(row["tokens"])
            row["teacher_prompt"] = f"{EVIL} more {EVIL}"

    change(run, spoil)
    questions = [json.loads(x) for x in (run / "questions.jsonl").read_text().splitlines()]
    for place, question in enumerate(questions):
        question["kind"] = f"{EVIL}{place % 2}"
    (run / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    html = page([run], tmp_path)
    read = Reader(html)
    assert read.balanced
    assert not {"script", "img"} & set(read.tags)
    assert "alert(1)" in read.text
    assert "\\x1b[2J\\x00\\ud800" in read.text
    assert "\x1b" not in html
    assert "<script>alert" in EVIL, "the check looks for what is there"


def test_long_texts_are_cut_and_say_so(run, tmp_path):
    def lengthen(row):
        row["question"]["messages"][-1]["content"] = "y" * 7000
        if "information" in row:
            row["tokens"][0] = "x" * 5000
            row["tokens"][1] = "x" * 5000
            row["teacher_prompt"] = "y" * 7000 + "z" * 7000

    change(run, lengthen)
    html = page([run], tmp_path)
    assert "x" * 5000 in html
    assert "x" * 5001 not in html
    assert "8 further tokens are not shown here." in html
    assert "1000 further characters are not shown here." in html
    assert "8000 further characters are not shown here." in html
    assert "further" not in page([RUN], tmp_path)


def test_gaps_in_the_numbers(run, tmp_path):
    def empty(row):
        if "information" in row:
            count = len(row["tokens"])
            row["information"] = [math.nan, *[None] * (count - 1)]
            del row["teacher_entropy"]

    change(run, empty)
    read = Reader(page([run], tmp_path))
    titles = {span["title"] for span in read.spans if "title" in span}
    assert all(title.startswith("I –, divergence") for title in titles)
    assert not any("teacher entropy" in title for title in titles)
    assert "No token has |I| of at least 0.001 nats" in read.text
    (run / "texts.jsonl").write_text('{"step": 1, "split": "train", "x": 1}\n')
    with pytest.raises(ValueError, match=r"texts\.jsonl, line 1: grade is missing"):
        page([run], tmp_path)


def test_both_schemes_have_all_colours_and_lines_tell_the_signs_apart(tmp_path):
    html = page([RUN], tmp_path)
    for name in ("up-1", "up-2", "up-3", "down-1", "down-2", "down-3", "added"):
        values = re.findall(rf"--{name}: (#\w+)", html)
        assert len(values) == 3, "light, dark and print"
        assert values[0] != values[1]
        assert values[0] == values[2]
    assert '[class^="down-"] { text-decoration-style: dashed; }' in html
