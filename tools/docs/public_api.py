"""The public names of pgpo_jax and sde, read from the source without importing it.

A module is public if no part of its path begins with an underscore. A name of it is public if it is
imported as itself (`from a._b import c as c`), or bound there without an underscore.
"""

import ast
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("pgpo_jax", "sde")


def public_modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name to file of each public module that has public names, packages before modules."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            private = any(part.startswith("_") for part in name.split("."))
            if not private and public_names(path):
                found[name] = path
    return dict(sorted(found.items()))


def public_names(path: Path) -> list[str]:
    """The public names of a file, in the order of the file."""
    statements = _statements(ast.parse(path.read_text(encoding="utf-8")))
    names = [name for node in statements for name in _bound(node) if not name.startswith("_")]
    return list(dict.fromkeys(names))


def where_documented(root: Path = ROOT) -> dict[str, str | None]:
    """Full public name to the full name that its entry has.

    An object that several modules offer has one entry, in the module with the shortest name. A
    subpackage that is offered as a name has a page, and no entry of its own. An object of another
    library has none: its name stands with `None`.
    """
    modules = public_modules(root)
    first: dict[tuple[Path, str], str] = {}
    found: dict[str, str | None] = {}
    for module in sorted(modules, key=lambda name: (name.count("."), len(name), name)):
        for name in public_names(modules[module]):
            if f"{module}.{name}" in modules:
                continue
            origin = _origin(modules[module], name, root)
            full = f"{module}.{name}"
            found[full] = first.setdefault(origin, full) if origin else None
    return found


def origins(root: Path = ROOT) -> dict[str, tuple[Path, str]]:
    """Full name of each entry to the file that binds the name, and the name there."""
    modules = public_modules(root)
    found = {}
    for full in sorted({entry for entry in where_documented(root).values() if entry}):
        module, _, name = full.rpartition(".")
        if origin := _origin(modules[module], name, root):
            found[full] = origin
    return found


def undocumented(root: Path = ROOT) -> list[str]:
    """Public names whose function, class or constant has no docstring."""
    return [full for full, (path, name) in origins(root).items() if name not in _documented(path)]


def _origin(path: Path, name: str, root: Path) -> tuple[Path, str] | None:
    """The file that binds a name, and the name; `None` if another library does."""
    while source := _imported(path).get(name):
        module, name = source
        if module.partition(".")[0] not in PACKAGES:
            return None
        below = root.joinpath(*module.split("."))
        path = below / "__init__.py" if below.is_dir() else below.with_suffix(".py")
    return path, name


@functools.cache
def _imported(path: Path) -> dict[str, tuple[str, str]]:
    """Each name that a file imports from a module: to the module, and the name in it."""
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in _statements(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements of a module, those under `if TYPE_CHECKING` included."""
    for node in tree.body:
        if isinstance(node, ast.If):
            yield from node.body
        else:
            yield node


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        yield from (alias.name for alias in node.names if alias.asname == alias.name)
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            # A type variable is a tool of the signatures, not a name to use.
            if isinstance(target, ast.Name) and not _makes_type_variable(node.value):
                yield target.id
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


@functools.cache
def _documented(path: Path) -> set[str]:
    """The names that a file binds with a docstring; that of a constant follows it."""
    statements = list(_statements(ast.parse(path.read_text(encoding="utf-8"))))
    found = set()
    for node, after in itertools.zip_longest(statements, statements[1:]):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            told = bool(ast.get_docstring(node))
        else:
            value = after.value if isinstance(after, ast.Expr) else None
            told = isinstance(value, ast.Constant) and isinstance(value.value, str)
        if told:
            found |= set(_bound(node))
    return found


def _makes_type_variable(value: ast.expr) -> bool:
    call = value.func if isinstance(value, ast.Call) else None
    return isinstance(call, ast.Name) and call.id == "TypeVar"
