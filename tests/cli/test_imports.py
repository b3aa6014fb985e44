"""Someone who only chains the transform pays for jax and optax alone."""

import re
import subprocess
import sys

import pytest

HEAVY = frozenset({"flax", "orbax", "transformers", "diffrax", "tyro", "matplotlib"})


def loaded(*arguments: str) -> set[str]:
    """Top-level modules that a fresh interpreter imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True
    )
    names = re.findall(r"^import time:.*\|\s*([\w.]+)$", done.stderr, flags=re.MULTILINE)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import pgpo_jax"),
        ("-c", "import pgpo_jax.information, pgpo_jax.distillation"),
        ("-m", "pgpo_jax", "--help"),
    ],
    ids=["package", "subpackages", "help"],
)
def test_light_imports(arguments):
    names = loaded(*arguments)
    assert {"jax", "optax", "pgpo_jax"} <= names
    assert names.isdisjoint(HEAVY)


def test_tasks_need_neither_jax_models_nor_trainers():
    names = loaded("-c", "import pgpo_jax.tasks")
    assert names.isdisjoint(HEAVY)


def test_the_check_sees_a_heavy_import():
    assert "flax" in loaded("-c", "import pgpo_jax, flax.version")
