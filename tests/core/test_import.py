"""What is imported with the package, and what only once it is asked for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pgpo_jax

SHOW = "import sys; print('jax' in sys.modules)"


def loaded(code: str) -> list[str]:
    """Whether jax is loaded after each part of some code that prints it."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def test_the_package_and_the_help_do_not_wait_for_jax():
    assert loaded(f"import pgpo_jax; {SHOW}; pgpo_jax.brake; {SHOW}") == ["False", "True"]
    *page, last = loaded(f"from pgpo_jax.cli import main; main(['--help']); {SHOW}")
    assert any("weak-order" in line for line in page)
    assert last == "False"


def test_names_come_from_where_the_type_checker_sees_them():
    tree = ast.parse(Path(pgpo_jax.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = {name: f"pgpo_jax.{module}" for name, module in pgpo_jax._LAZY.items()}
    assert seen == lazy | dict.fromkeys(pgpo_jax._LAZY_PACKAGES, "pgpo_jax")
    assert {*pgpo_jax.__all__} == {*seen, "PGPOError", "errors"}


def test_every_name_is_there_and_no_other():
    for name in pgpo_jax.__all__:
        assert getattr(pgpo_jax, name) is getattr(pgpo_jax, name)
        assert name in dir(pgpo_jax)
    with pytest.raises(AttributeError, match="has no attribute 'breaks'"):
        _ = pgpo_jax.breaks
