"""Public functions and classes whose docstring has no example, or does not say what it raises.

    python -m tools.public_examples

A function raises if its body has a `raise` or calls one of `CHECKS`. A class does if its `__init__`
or `__post_init__` does, whose own docstring may say so. Errors of other functions are not followed.
"""

import ast
from pathlib import Path
from typing import Literal

from tools.docs.public_api import ROOT, definition, public_modules, where_documented

CHECKS = frozenset({"require", "positive", "probability", "check_number"})
_Definition = ast.FunctionDef | ast.ClassDef


def lacking(what: Literal["example", "raises"], root: Path = ROOT) -> list[str]:
    """Full public names whose docstring lacks one of the two."""
    modules = public_modules(root)
    found = []
    for entry in sorted({entry for entry in where_documented(root).values() if entry}):
        module, _, name = entry.rpartition(".")
        node = definition(modules[module], name, root)
        if not isinstance(node, _Definition):
            continue
        told = ast.get_docstring(node) or ""
        if what == "example":
            lacks = ">>>" not in told and "```" not in told
        else:
            lacks = "Raises:" not in told and _raises(node)
        if lacks:
            found.append(entry)
    return found


def _raises(node: _Definition) -> bool:
    if isinstance(node, ast.FunctionDef):
        return any(map(_raising, ast.walk(node)))
    methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
    made = [each for each in methods if each.name in ("__init__", "__post_init__")]
    told = [ast.get_docstring(each) or "" for each in made]
    return any(_raises(each) and "Raises:" not in t for each, t in zip(made, told, strict=True))


def _raising(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in CHECKS
    return isinstance(node, ast.Raise)


def main() -> None:
    """Prints the names that lack an example, then those that lack a section on errors."""
    for what in ("example", "raises"):
        names = lacking(what)
        print(f"{len(names)} public names without {what}:", *names, sep="\n  ")


if __name__ == "__main__":
    main()
