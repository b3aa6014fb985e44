"""What is published: lock file and pyproject.toml agree, so do versions; PyPI has no dead link."""

import re
import tomllib
from pathlib import Path

import pgpo_jax

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked_differs(project, lock):
    """The requirements that stand in only one of pyproject.toml and the lock file.

    Each is a line such as `flax>=0.12.8 (train)`, without spaces or quotes.
    """
    table = project["project"]
    asked = {plain(line) for line in table["dependencies"]}
    for extra in table["optional-dependencies"]:
        asked |= {f"{plain(line)} ({extra})" for line in extra_lines(table, extra)}
    (own,) = (package for package in lock["package"] if package["name"] == table["name"])
    held = set()
    for need in own["metadata"]["requires-dist"]:
        extras = f"[{','.join(need['extras'])}]" if "extras" in need else ""
        line = need["name"] + extras + need.get("specifier", "")
        marker = re.search(r"extra == '(.*?)'", need.get("marker", ""))
        held.add(plain(line) + (f" ({marker[1]})" if marker else ""))
    return sorted(asked ^ held)


def extra_lines(table, extra):
    """The requirements of an extra, with those of the extras that it names."""
    for line in table["optional-dependencies"][extra]:
        own = re.fullmatch(rf"{table['name']}\[(.*)\]", line)
        if own:
            for name in own[1].split(","):
                yield from extra_lines(table, name)
        else:
            yield line


def plain(line):
    """A requirement with its bounds in one order and its name as the index writes it."""
    name, bounds = re.fullmatch(r"([\w.\[\],-]+)\s*(.*)", line).groups()
    name = name.replace("_", "-").lower()
    return name + ",".join(sorted(bounds.replace(" ", "").split(",")))


def on_pypi(text):
    """The README as the build changes it, by the rules of pyproject.toml."""
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    return text


def test_the_lock_file_is_in_step_with_the_project():
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    assert locked_differs(PROJECT, lock) == []
    assert lock["requires-python"] == PROJECT["project"]["requires-python"]
    # Whoever locks behind a mirror would send everybody there.
    sources = {package["source"].get("registry") for package in lock["package"]}
    assert sources == {"https://pypi.org/simple", None}
    # Bounds, extras and names are all compared.
    project = PROJECT["project"]
    changed = {**project, "dependencies": ["jax>=0.9", *project["dependencies"][1:]]}
    assert locked_differs({"project": changed}, lock) == ["jax>=0.8", "jax>=0.9"]
    changed = {**project, "optional-dependencies": {**project["optional-dependencies"], "x": ["y"]}}
    assert locked_differs({"project": changed}, lock) == ["y (x)"]


def test_versions_agree():
    (cited,) = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M)
    newest = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[0]
    assert cited == newest == pgpo_jax.__version__


def test_the_readme_on_pypi_has_no_link_to_a_file():
    readme = (ROOT / "README.md").read_text()
    relative = r"\]\((?!https?:|#)"
    assert len(re.findall(relative, readme)) > 20
    shown = on_pypi(readme)
    assert re.findall(relative, shown) == []
    # The words stay, and so do addresses.
    assert "[arXiv 2606.03620](https://arxiv.org/abs/2606.03620)" in shown
    assert "(Figure: Held-out accuracy over 60 steps, 24 runs each: " in shown
    assert on_pypi("[a](b.md#c), [d](https://e.f) and [g](#h)") == "a, [d](https://e.f) and [g](#h)"
