"""Who imports whom: no circles within `sde`, and nobody outside looks into its private modules."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, modules: set[str]) -> Iterator[str]:
    """What a file imports, wherever in the file; the module that `from a import b` reads."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_there_is_no_import_circle():
    files = {module_name(path): path for path in (ROOT / "sde").rglob("*.py")}
    modules = set(files)
    graph = {name: set(imported(path, modules)) & modules for name, path in files.items()}
    assert len(graph["sde.order._question"]) > 5
    assert find_circle(graph) == []
    # The search sees one that is put in.
    graph["sde._psd"].add("sde.order._question")
    assert {"sde._psd", "sde.order._question"} <= set(find_circle(graph))


def is_private(name: str) -> bool:
    package, *inner = name.split(".")
    return package == "sde" and any(part.startswith("_") for part in inner)


@pytest.mark.parametrize("folder", ["experiments", "benchmarks", "pgpo_jax"])
def test_nobody_outside_imports_a_private_module(folder):
    modules = {module_name(path) for path in (ROOT / "sde").rglob("*.py")}
    files = list((ROOT / folder).rglob("*.py"))
    found = {(module_name(p), name) for p in files for name in imported(p, modules)}
    assert any(name.partition(".")[0] == "sde" for _, name in found)
    assert not [pair for pair in found if is_private(pair[1])]
    assert is_private("sde.order._fit")


def test_the_packages_of_the_wheel_import_no_others():
    for folder in ("sde", "pgpo_jax"):
        for path in (ROOT / folder).rglob("*.py"):
            roots = {name.partition(".")[0] for name in imported(path, set())}
            assert roots.isdisjoint({"experiments", "benchmarks", "tests"}), path
