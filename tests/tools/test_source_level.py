"""The source stays as easy to read as it is: lengths of sentences, examples, errors."""

import statistics

import pytest

from tools import public_examples, source_prose
from tools.prose import ROOT

MEDIAN = 15
LONGEST = 30
# Public names without an example: results that a function returns, and what needs a model's files.
WITHOUT_EXAMPLE = 133
# The rules of a study are fixed before its runs, and so is their wording.
FIXED = [
    *(
        "baselines",
        "brake",
        "budget",
        "falsification",
        "family",
        "real_model",
        "science_qa",
        "stability",
        "selection",
    ),
    "estimators/_command",
]
TREE = {
    "pgpo_jax/__init__.py": "from pgpo_jax._a import f as f, g as g, H as H",
    "pgpo_jax/_a.py": (
        'def f(x):\n    """Adds.\n\n    >>> f(1)\n    2\n    """\n    require(x)\n'
        'def g(x):\n    """Adds.\n\n    Raises:\n        ValueError: x.\n    """\n    raise x\n'
        'class H:\n    """Holds."""\n    def __init__(self):\n        raise ValueError\n'
    ),
    "sde/__init__.py": "",
}


def long_sentences(found):
    fixed = {ROOT / "experiments" / f"{name}.py" for name in FIXED}
    return [
        f"{one.path}:{one.sentence.line}: {one.sentence.words} words"
        for one in found
        if one.sentence.words > LONGEST and one.path not in fixed
    ]


@pytest.mark.parametrize("folder", source_prose.FOLDERS)
def test_sentences_are_short(folder):
    found = [one for path in source_prose.files(ROOT / folder) for one in source_prose.found(path)]
    assert long_sentences(found) == []
    for kind in {one.kind for one in found}:
        words = [one.sentence.words for one in found if one.kind == kind]
        assert statistics.median(words) <= MEDIAN, kind


def test_a_long_sentence_is_told(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(f'"""It is short. It goes on{" and on" * 15}."""\n')
    assert long_sentences(source_prose.found(path)) == [f"{path}:1: 33 words"]


def test_the_texts_that_are_fixed_are_there():
    assert all((ROOT / "experiments" / f"{name}.py").is_file() for name in FIXED)


def test_public_names_say_what_they_raise_and_show_an_example():
    assert public_examples.lacking("raises") == []
    assert len(public_examples.lacking("example")) <= WITHOUT_EXAMPLE


def test_a_name_that_lacks_one_is_told(tmp_path):
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert public_examples.lacking("example", tmp_path) == ["pgpo_jax.H", "pgpo_jax.g"]
    assert public_examples.lacking("raises", tmp_path) == ["pgpo_jax.H", "pgpo_jax.f"]
