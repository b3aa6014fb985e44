"""The checks that `make docs` ends with: every public name and every flag is in the reference."""

import ast
import html
import zlib

import pytest

from tools.docs.added import added_in, write_lines, wrong_names
from tools.docs.check_entries import missing_entries, missing_flags
from tools.docs.fenced import fenced
from tools.docs.public_api import public_modules, undocumented, where_documented


def package(root, **files):
    """A tree with `pgpo_jax` and an empty `sde`; `__` in a name stands for a slash."""
    for name, text in {"pgpo_jax__init": "", "sde__init": "", **files}.items():
        path = root / (name.replace("__", "/").replace("/init", "/__init__") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def inventory(site, names):
    head = b"# Sphinx inventory version 2\n# Project: x\n# Version: 0\n# zlib\n"
    lines = "".join(f"{name} py:function 1 api/#$ -\n" for name in names)
    (site / "objects.inv").write_bytes(head + zlib.compress(lines.encode()))
    return site


def test_every_public_name_has_a_docstring():
    assert len(where_documented()) > 400
    assert undocumented() == []


def test_names_without_a_docstring_are_told(tmp_path):
    root = package(
        tmp_path,
        pgpo_jax__init="from pgpo_jax._a import f as f, g as g, X as X, Y as Y\nimport os",
        pgpo_jax___a='def f():\n    "Told."\ndef g(): pass\nX = 1\n"""Told."""\nY = 2\nZ = 3',
    )
    assert undocumented(root) == ["pgpo_jax.Y", "pgpo_jax.g"]


def test_a_name_has_one_entry_however_often_it_is_offered(tmp_path):
    root = package(
        tmp_path,
        pgpo_jax__init="from pgpo_jax import b as b\nfrom pgpo_jax.b import f as f",
        pgpo_jax__b__init="from pgpo_jax.b._c import f as f, Figure as Figure\nh = 1\n_i = 2",
        pgpo_jax__b___c="from matplotlib.figure import Figure as Figure\ndef f(): pass",
    )
    assert list(public_modules(root)) == ["pgpo_jax", "pgpo_jax.b"]
    assert where_documented(root) == {
        "pgpo_jax.f": "pgpo_jax.f",
        "pgpo_jax.b.f": "pgpo_jax.f",
        "pgpo_jax.b.Figure": None,
        "pgpo_jax.b.h": "pgpo_jax.b.h",
    }


def test_a_name_without_an_entry_is_told(tmp_path):
    entries = sorted({entry for entry in where_documented().values() if entry})
    assert missing_entries(inventory(tmp_path, entries)) == []
    entries.remove("pgpo_jax.information.kl_gain")
    assert missing_entries(inventory(tmp_path, entries)) == ["pgpo_jax.information.kl_gain"]


@pytest.mark.parametrize("absent", ["--rollout.top-k", "--seed"])
def test_a_flag_that_is_not_shown_is_told(tmp_path, absent):
    (tmp_path / "flags").mkdir()
    page = tmp_path / "flags" / "index.html"
    page.write_text("")
    flags = missing_flags(tmp_path)
    assert len(flags) > 100
    page.write_text(html.escape("\n".join(f"  <{flag} INT" for flag in flags)))
    assert missing_flags(tmp_path) == []
    page.write_text("\n".join(flag for flag in flags if flag != absent))
    assert missing_flags(tmp_path) == [absent]


def test_examples_stand_in_fences():
    told = "Adds.\n\n    >>> for x in 1,:\n    ...     x\n    1\n\nMore > less.\n\n>>> 2\n2"
    assert fenced(told) == (
        "Adds.\n\n    ```pycon\n    >>> for x in 1,:\n    ...     x\n    1\n    ```\n\n"
        "More > less.\n\n```pycon\n>>> 2\n2\n```"
    )
    assert fenced("No example: a >= b.") == "No example: a >= b."


def test_names_that_are_new_say_since_when():
    assert wrong_names() == []


def test_a_name_that_does_not_say_since_when_is_told_and_mended(tmp_path):
    root = package(
        tmp_path,
        pgpo_jax__init="from pgpo_jax._a import f as f, g as g, h as h, K as K, old as old",
        pgpo_jax___a='''def f():
    "Known."

def g():
    """Adds.

    Args:
        x: a number.
    """  # noqa

def h():
    r"""Subtracts."""

K = 1
"""A constant."""

def old():
    """Older.

    Added in version 0.2.0.
    """
''',
    )
    first = tmp_path / "first.txt"
    first.write_text("pgpo_jax.old\npgpo_jax.f\n")
    new = ["pgpo_jax.K", "pgpo_jax.g", "pgpo_jax.h"]
    assert wrong_names(root, first) == [*new, "pgpo_jax.old"]
    assert write_lines("0.3.0", root, first) == 3
    assert wrong_names(root, first) == ["pgpo_jax.old"]
    assert write_lines("0.4.0", root, first) == 0
    source = (root / "pgpo_jax" / "_a.py").read_text()
    assert '    """  # noqa\n' in source
    told = ast.parse(source)
    texts = {node.name: ast.get_docstring(node) for node in told.body if hasattr(node, "name")}
    assert texts["g"] == "Adds.\n\nArgs:\n    x: a number.\n\nAdded in version 0.3.0."
    assert texts["h"] == "Subtracts.\n\nAdded in version 0.3.0."
    assert added_in(texts["h"]) == "0.3.0"
    assert added_in("Added in version 0.2.0. It adds.") is None
