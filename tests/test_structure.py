"""How the packages hang together: no import circle, and nobody outside reads a private module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pgpo_jax", "sde", "experiments")
OUTSIDE = ("experiments", "benchmarks", "examples")

# What is known and not mended yet. An entry that is clean fails the test: delete it.
KNOWN_CIRCLES: set[tuple[str, ...]] = {
    ("pgpo_jax.training.config._combinations", "pgpo_jax.training.config._train_config"),
}
KNOWN_PRIVATE_IMPORTS: set[tuple[str, str]] = {
    ("benchmarks/compile_time.py", "pgpo_jax.training.memory._estimate"),
    ("benchmarks/full_size_overhead.py", "pgpo_jax.training.memory._estimate"),
    ("benchmarks/sde_simulation.py", "sde._simulate_ensemble"),
    ("benchmarks/sde_simulation.py", "sde._simulate_equation"),
    ("experiments/_weak_order_kink.py", "sde._order_fit"),
    ("experiments/_weak_order_tables.py", "sde._order_fit"),
    ("experiments/weak_order.py", "sde._statements"),
}


def modules_of(root, packages):
    """Name -> file of every module, packages by their own name."""
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name, path):
    """What a module imports anywhere in it, as (module, name in it or None)."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*above, *filter(None, [source])])
            for alias in node.names:
                yield source, alias.name


def circles(root, packages=PACKAGES):
    """Groups of modules that import each other, each sorted; a package is its `__init__.py`.

    An import inside a function or under `if TYPE_CHECKING` counts. That a module's own package is
    imported before it does not.
    """
    modules = modules_of(root, packages)
    edges = {name: set() for name in modules}
    for name, path in modules.items():
        for source, item in imported(name, path):
            target = f"{source}.{item}"
            edges[name].add(target if target in modules else source)
        edges[name] &= modules.keys()

    def reached(start):
        seen, todo = set(), [start]
        while todo:
            for target in edges[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        return seen

    reach = {name: reached(name) for name in modules}
    return {
        tuple(sorted(other for other in reach[name] if name in reach[other]))
        for name in modules
        if name in reach[name]
    }


def private_imports(root, folders=OUTSIDE):
    """(file, private module or name) for whatever is imported from within pgpo_jax or sde."""
    found = set()
    for name, path in modules_of(root, folders).items():
        for source, item in imported(name, path):
            parts = [*source.split("."), *([item] if item else [])]
            private = any(part.startswith("_") and not part.startswith("__") for part in parts)
            if parts[0] in ("pgpo_jax", "sde") and private:
                is_module = source.rpartition(".")[2].startswith("_") or not item
                found.add((str(path.relative_to(root)), source if is_module else ".".join(parts)))
    return found


def test_no_import_circle():
    assert circles(ROOT) == KNOWN_CIRCLES


def test_no_private_import_from_outside():
    assert private_imports(ROOT) == KNOWN_PRIVATE_IMPORTS


def written(root, **files):
    for name, text in files.items():
        path = root / (name.replace("__", "/").replace("/init", "/__init__") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "back",
    [
        "from p._a import x",
        "from p import _a",
        "import p._a",
        "from . import _a",
        "from ._a import x",
        "def f():\n    from p._a import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p._a import x",
        "try:\n    import p._a as a\nexcept ImportError:\n    pass",
    ],
)
def test_a_circle_is_found_wherever_the_import_stands(tmp_path, back):
    root = written(tmp_path, p__init="from p._a import x", p___a="import p._b", p___b="import json")
    assert circles(root, ("p",)) == set()
    written(tmp_path, p___b=back)
    assert circles(root, ("p",)) == {("p._a", "p._b")}


def test_longer_circles_are_found_whole(tmp_path):
    written(
        tmp_path,
        p__init="",
        p__q__init="from p.q._c import x",
        p___a="from p.q import x",
        p__q___c="from p import _d",
        p___d="import p._a, p._e",
        p___e="",
        p___f="import p._f",
    )
    assert circles(tmp_path, ("p",)) == {("p._a", "p._d", "p.q", "p.q._c"), ("p._f",)}


def test_private_imports_are_found(tmp_path):
    written(
        tmp_path,
        benchmarks__one="from pgpo_jax.models._layers import x\nimport sde._order",
        benchmarks__two="def f():\n    from pgpo_jax.models import _generate, sample",
        experiments__three="from pgpo_jax.models import sample\nfrom experiments._own import y",
        examples__four="from pgpo_jax import __version__\nimport json._other",
    )
    assert private_imports(tmp_path) == {
        ("benchmarks/one.py", "pgpo_jax.models._layers"),
        ("benchmarks/one.py", "sde._order"),
        ("benchmarks/two.py", "pgpo_jax.models._generate"),
    }
