"""The prose of the source is found, counted, and held to the level that it has reached."""

import doctest

import pytest

from tools import source_prose, source_texts

SOURCE = '''"""Says what it is for."""

LIMIT = 1.0
"""Nats."""
_HIDDEN = 2
"""No one sees it."""

# A comment of two
# lines. It ends.
x = 1  # Another one.
y = 2  # pyright: ignore[reportAny]
"""It describes y."""


class Name:
    """Holds it.

    Attributes:
        a: the first,
            which goes on. So.
        b: the second.

    >>> Name("This is. Not prose.")
    Name. Really.

    Returns:
        One thing, which
        goes on.
    """

    def act(self, value):
        """Acts."""
        "This is a value: no docstring."
        def inner():
            """It helps."""
        if value:
            raise ValueError(f"it must be {LIMIT:.2f} at most, " f"got {value!r}")
        require(value, "value must be there", value)
        print("This is no message.")


def _private():
    """It is for this file."""
'''


def of(kind):
    return [(t.markdown.strip(), t.line) for t in source_texts.texts(SOURCE) if t.kind == kind]


def test_docstrings_comments_and_messages_are_found():
    documented = of("docstring")
    assert [text for text, _ in documented if "Holds" not in text] == [
        *("Says what it is for.", "Nats.", "It describes y.", "Acts.")
    ]
    assert [text for text, _ in of("private")] == [
        *("No one sees it.", "It helps.", "It is for this file.")
    ]
    assert of("comment") == [("A comment of two\nlines. It ends.", 8), ("Another one.", 10)]
    assert of("message") == [
        (
            "it must be `value` at most, got `value`",
            SOURCE[: SOURCE.index("raise")].count("\n") + 1,
        ),
        ("value must be there", SOURCE[: SOURCE.index("require(")].count("\n") + 1),
    ]


def test_a_docstring_is_counted_by_entries_without_its_examples(tmp_path):
    path = tmp_path / "one.py"
    path.write_text(SOURCE)
    lines = SOURCE.splitlines()
    found = [one.sentence for one in source_prose.found(path) if one.kind == "docstring"]
    of_class = [(s.text, s.words, lines[s.line - 1].strip()) for s in found if 14 < s.line < 32]
    assert of_class == [
        ("Holds it.", 2, '"""Holds it.'),
        ("the first, which goes on.", 5, "a: the first,"),
        ("So.", 1, "which goes on. So."),
        ("the second.", 2, "b: the second."),
        ("One thing, which goes on.", 5, "One thing, which"),
    ]


def test_the_table_tells_a_bad_file_from_a_good_one(tmp_path, capsys):
    for name, text in (("good", '"""It ends."""'), ("bad", f'"""It goes {"on " * 40}."""')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(text)
    source_prose.main([str(tmp_path / "good"), str(tmp_path / "bad"), "--worst", "1"])
    _, bad, good, *worst = capsys.readouterr().out.splitlines()
    assert good.split() == ["1", "2.0", "2", "2", "0", "docstring", str(tmp_path / "good")]
    assert bad.split() == ["1", "42.0", "42", "42", "1", "docstring", str(tmp_path / "bad")]
    assert worst[1] == f"42 words, docstring, {tmp_path / 'bad' / 'a.py'}:1"


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        source_prose.main([str(tmp_path / "nowhere")])
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("module", [source_prose, source_texts])
def test_examples(module):
    done = doctest.testmod(module)
    assert done.attempted
    assert not done.failed
