"""What the documentation shows does run: python blocks, one program per page, and docstrings."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# `models` and `sde` have such a test of their own, and `integrations` an optional dependency.
EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "pgpo_jax").rglob("*.py"))
    if ">>> " in path.read_text()
    and path.relative_to(ROOT).parts[1] not in ("models", "integrations")
]


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.S | re.M)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        *("../README.md", "transform.md", "information.md", "distillation.md"),
        *("data.md", "extending.md", "laboratory.md", "objectives.md"),
        # It trains for two steps.
        pytest.param("training.md", marks=pytest.mark.slow),
    ],
)
def test_page_runs(page, lenient):
    space = {"__name__": page}
    assert blocks(page)
    for block in blocks(page):
        exec(compile(block, page, "exec"), space)
    if page == "../README.md":
        assert abs(float(space["state"][-1].rho) - 1.34986) < 5e-6
    if page == "transform.md":
        # Each of the four loops went through the transform with its own signal.
        for state in (space["state"], space["train_state"].opt_state, space["opt_state"]):
            assert abs(float(state[-1].rho) - 1.2214) < 1e-4
        assert abs(float(space["optimizer"].opt_state[-1].rho[...]) - 1.2214) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name, lenient):
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted
    assert not done.failed


def test_the_rooms_that_are_named_are_there():
    """Files of `extending.md` exist, except those that a newcomer is to write."""
    text = (DOCS / "extending.md").read_text()
    paths = set(re.findall(r"`((?:pgpo_jax|sde|tests)/[^` ]*)`", text))
    missing = {path for path in paths if not (DOCS.parent / path).exists()}
    assert len(paths) > 12
    assert {path.rpartition("/")[2] for path in missing} == {"_yours.py", "test_yours.py"}


def test_import_costs_jax_and_optax_only():
    """Someone who only chains the transform pays for nothing else."""
    import subprocess
    import sys

    code = (
        "import sys, pgpo_jax; heavy = ['flax', 'orbax', 'transformers', 'diffrax', 'equinox', "
        "'tyro', 'torch', 'sde']; print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names():
    import pgpo_jax as pgpo

    public = {n for n in dir(pgpo) if not n.startswith("_")}
    assert public >= {
        "ScaleByInformationState", "distillation", "information", "multiplier", "pgpo",
        "scale_by_information",
    }  # fmt: skip
    for module in (pgpo, pgpo.information, pgpo.distillation):
        for name in dir(module):
            thing = getattr(module, name)
            if callable(thing) and not name.startswith("_") and not name.endswith("_per_token"):
                assert thing.__doc__, f"{module.__name__}.{name} has no docstring"
