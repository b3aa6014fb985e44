"""The version that added a public name: the last line of the docstring gives it.

    python -m tools.docs.added    # writes the line into docstrings that lack it

The names in `names-0.1.0.txt` were in the first version, and have no such line.
"""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from tools.docs.public_api import ROOT, origins

FIRST = Path(__file__).parent / "names-0.1.0.txt"
_LINE = re.compile(r"Added in version (\d+\.\d+\.\d+)\.")


def added_in(docstring: str) -> str | None:
    """The version that the last line of a docstring names.

    >>> added_in("Adds.\\n\\nMore.\\n\\nAdded in version 0.2.0.")
    '0.2.0'
    """
    last = docstring.rstrip().rpartition("\n")[2].strip()
    found = _LINE.fullmatch(last)
    return found[1] if found else None


def wrong_names(root: Path = ROOT, first: Path = FIRST) -> list[str]:
    """Public names whose docstring should have the line and has not, or the reverse."""
    known = set(first.read_text(encoding="utf-8").split())
    return [
        name
        for name, _, text in _docstrings_of_names(root)
        if (added_in(_value(text)) is None) != (name in known)
    ]


def write_lines(version: str, root: Path = ROOT, first: Path = FIRST) -> int:
    """Adds the line to each docstring that lacks it; gives how many were changed."""
    known = set(first.read_text(encoding="utf-8").split())
    places: dict[Path, list[ast.Constant]] = {}
    for name, path, text in _docstrings_of_names(root):
        if name not in known and added_in(_value(text)) is None:
            places.setdefault(path, []).append(text)
    for path, nodes in places.items():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        # From the end, so that the places of the others hold.
        for node in sorted(nodes, key=lambda node: -node.lineno):
            _append(lines, node, f"Added in version {version}.")
        path.write_text("".join(lines), encoding="utf-8")
    return sum(map(len, places.values()))


def _append(lines: list[str], node: ast.Constant, sentence: str) -> None:
    """Puts a paragraph at the end of a docstring that stands in these lines of a file."""
    end = (node.end_lineno or node.lineno) - 1
    indent = " " * node.col_offset
    head, quotes, rest = lines[end].rpartition('"""')
    before = f"{head.rstrip()}\n\n" if head.strip() else "\n"
    lines[end] = f"{before}{indent}{sentence}\n{indent}{quotes}{rest}"


def _docstrings_of_names(root: Path) -> Iterator[tuple[str, Path, ast.Constant]]:
    """Each public name that has a docstring: the name, its file, and the docstring."""
    read: dict[Path, dict[str, ast.Constant]] = {}
    for name, (path, bound) in origins(root).items():
        if path not in read:
            read[path] = _docstrings(path)
        if bound in read[path]:
            yield name, path, read[path][bound]


def _docstrings(path: Path) -> dict[str, ast.Constant]:
    """The docstrings of the functions, classes and constants of a file."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    found: dict[str, ast.Constant] = {}
    for node, after in itertools.zip_longest(body, body[1:]):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names, held = [node.name], node.body[0]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names, held = [t.id for t in targets if isinstance(t, ast.Name)], after
        else:
            continue
        value = held.value if isinstance(held, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found |= dict.fromkeys(names, value)
    return found


def _value(node: ast.Constant) -> str:
    return str(node.value)


if __name__ == "__main__":
    from pgpo_jax._version import __version__

    print(f"{write_lines(__version__)} docstrings changed")
