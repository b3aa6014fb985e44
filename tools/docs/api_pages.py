"""The pages of the API: one for each public module, with an entry for each of its public names."""

import ast

from tools.docs.public_api import public_modules, where_documented

_DIRECTIVE = """
::: {module}
    options:
      members: [{members}]
      show_root_heading: false
      show_root_toc_entry: false
      heading_level: 2
"""


def api_pages() -> dict[str, str]:
    """Path of each page, below the folder of the documentation, to its Markdown."""
    modules, entries = public_modules(), where_documented()
    pages = {f"api/{module}.md": _page(module, entries) for module in modules}
    return {"api/index.md": _index(), **pages}


def _page(module: str, entries: dict[str, str | None]) -> str:
    names = [name for name in entries if name.rpartition(".")[0] == module]
    own = sorted((name for name in names if entries[name] == name), key=str.lower)
    members = ", ".join(f'"{name.rpartition(".")[2]}"' for name in own)
    parts = [f"# `{module}`\n", _DIRECTIVE.format(module=module, members=members)]
    elsewhere = [name for name in sorted(names) if entries[name] != name]
    if elsewhere:
        links = [_link(name, entries[name]) for name in elsewhere]
        parts += ["\n## Described elsewhere\n\n", "\n".join(links), "\n"]
    return "".join(parts)


def _link(name: str, entry: str | None) -> str:
    short = name.rpartition(".")[2]
    return f"- [`{short}`][{entry}]" if entry else f"- `{short}`, of another library"


def _index() -> str:
    rows = []
    for module, path in public_modules().items():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = " ".join(text.partition("\n\n")[0].split())
        rows.append(f"| [`{module}`]({module}.md) | {first} |")
    head = (
        "# API\n\nEach public module has a page, with every public name of it. "
        "A module whose name begins with `_` is private and may change at any time.\n\n"
        "| module | what it is for |\n|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"
