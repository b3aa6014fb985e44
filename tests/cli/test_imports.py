"""What is imported with the package and its commands, and what only once it is asked for."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pgpo_jax

HEAVY = frozenset({"flax", "orbax", "transformers", "diffrax", "tyro", "matplotlib"})


def loaded(*arguments: str) -> set[str]:
    """Top-level modules that a fresh interpreter imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True
    )
    names = re.findall(r"^import time:.*\|\s*([\w.]+)$", done.stderr, flags=re.MULTILINE)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("arguments", "core"),
    [
        (("-c", "import pgpo_jax"), set()),
        (("-m", "pgpo_jax", "--help"), set()),
        # Someone who only chains the transform pays for jax and optax alone.
        (("-c", "import pgpo_jax; pgpo_jax.brake"), {"jax", "optax"}),
        (("-c", "import pgpo_jax.information, pgpo_jax.distillation"), {"jax"}),
    ],
    ids=["package", "help", "transform", "subpackages"],
)
def test_light_imports(arguments, core):
    names = loaded(*arguments)
    assert "pgpo_jax" in names
    assert names & {"jax", "optax"} == core
    assert names.isdisjoint(HEAVY)


def test_tasks_need_neither_jax_models_nor_trainers():
    names = loaded("-c", "import pgpo_jax.tasks")
    assert names.isdisjoint(HEAVY)


def test_samples_need_no_checkpoints_and_not_the_list_of_all_models():
    load = "from pgpo_jax.models import load_tokenizer; load_tokenizer({!r})"
    code = load.format(str(Path(pgpo_jax.__file__).parent / "assets" / "tiny"))
    names = loaded("-c", f"import pgpo_jax.cli._sample; {code}")
    assert {"flax", "transformers"} <= names
    assert "orbax" not in names
    code += "; import sys; sys.exit('transformers.models.auto' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_check_sees_a_heavy_import():
    assert "flax" in loaded("-c", "import pgpo_jax, flax.version")


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
    assert "__file__" in dir(pgpo_jax)
    with pytest.raises(AttributeError, match="has no attribute 'breaks'"):
        _ = pgpo_jax.breaks
