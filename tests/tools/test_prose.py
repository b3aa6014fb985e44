"""The count of words a sentence leaves out what is no prose, and finds what is too long."""

import doctest

import pytest

from tools import prose

PAGE = """# A heading of quite a few words that are not counted

One sentence, with `a piece of code` and a [link of four words](https://example.org/a.b.c). Two!
- An item e.g. of five words
- It costs 0.6. It is
  paid at once.

| a table | of many words |
|---|---|

```python
this = "code. It is not. Counted."
```

    pgpo train --output runs/mine

$$ a = b. C = d $$
"""


def test_sentences_are_found_and_the_rest_is_left_out():
    found = [(s.words, s.line) for s in prose.sentences(PAGE)]
    assert found == [(10, 3), (1, 3), (6, 4), (3, 5), (5, 5)]
    page = prose.measure(PAGE)
    assert (page.median, page.high, page.longest.line, page.long_lines) == (5, 10, 3, [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("As in Eq. 8 of it. Ends", [6, 1]),
        ("Of I. And `x` so.\n", [2, 3]),
        ("It is .5 of it.", [5]),
        ("(It ends.) `Code` begins.", [2, 2]),
        ("A [link over\ntwo lines](there is no word here.md) ends. Then $a + b$.", [6, 2]),
        ("One - two", [2]),
    ],
)
def test_where_a_sentence_ends(text, words):
    assert [s.words for s in prose.sentences(text)] == words


def test_a_bad_page_is_told_from_a_good_one(tmp_path, capsys):
    (tmp_path / "good.md").write_text("It is short. It ends.\n")
    (tmp_path / "bad.md").write_text("It goes on and on" + " and on" * 20 + ".\n")
    prose.main([str(tmp_path / "good.md"), str(tmp_path / "bad.md"), "--worst", "1"])
    _, good, bad, *worst = capsys.readouterr().out.splitlines()
    assert good.split() == ["2", "2.5", "3", "3", "(1)", "0", str(tmp_path / "good.md")]
    assert bad.split() == ["1", "45.0", "45", "45", "(1)", "1", str(tmp_path / "bad.md")]
    assert worst[1].startswith("45 words")
    assert worst[2].strip().startswith("It goes on and on")


def test_a_page_that_is_not_there_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        prose.main([str(tmp_path / "nowhere.md")])
    assert "nowhere.md" in capsys.readouterr().err


def test_long_targets_of_links_make_no_long_line():
    assert prose.measure(f"[a](https://example.org/{'a' * 200})").long_lines == []
    assert prose.measure("a" * 121).long_lines == [1]


def test_the_log_is_left_out(tmp_path):
    kept = ("README.md", "docs/log.md", "docs/start/one.md")
    for name in (*kept, "docs/log/one.md", "docs/one.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert prose.pages(tmp_path) == [tmp_path / name for name in kept]


@pytest.mark.parametrize("path", prose.pages(), ids=lambda path: path.name)
def test_a_page_is_easy_to_read(path):
    page = prose.measure(path.read_text("utf-8"))
    assert page.median <= 15
    assert page.long_lines == []


def test_examples():
    done = doctest.testmod(prose)
    assert done.attempted
    assert not done.failed
