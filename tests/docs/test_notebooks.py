"""The notebooks run, hold no outputs in the repository, and give the numbers that pages quote."""

import ast
import doctest
import json
import re
import shlex
import sys
import tomllib

import jax
import pytest

import sde
from tools.docs import notebook_needs
from tools.docs.public_api import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def code_cells(path):
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def run_cells(path, monkeypatch):
    """Executes the cells of a notebook as one program, and gives its names."""
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", plt.close)
    space = {"__name__": path.name}
    # A notebook runs with the usual promotion of dtypes, and not the strict one of the suite.
    with jax.numpy_dtype_promotion("standard"):
        for cell in code_cells(path):
            exec(compile("".join(cell["source"]), path.name, "exec"), space)
    return space


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_holds_no_outputs(path):
    cells = code_cells(path)
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def extras_of(need, name):
    """The extras in a requirement like `name[a,b]`."""
    found = re.fullmatch(rf"{re.escape(name)}\[(.*)\]", need)
    return found[1].split(",") if found else []


def missing_packages(path):
    """What a notebook imports and the `%pip install` line of its first cell does not bring."""
    cells = json.loads(path.read_text())["cells"]
    asked = re.search(r"`%pip install (.*)`", "".join(cells[0]["source"]))
    assert asked, f"{path.name} does not say what to install"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = {*sys.stdlib_module_names, "numpy"}
    optional = project["optional-dependencies"]
    for word in shlex.split(asked[1]):
        name, *extras = re.split(r"[\[\],]", word.rstrip("]"))
        brought.add(name.replace("-", "_"))
        if name == project["name"]:
            # `tunix` brings `pgpo-jax[train]` among others.
            for extra in extras:
                extras += [e for need in optional[extra] for e in extras_of(need, name)]
            needs = sum((optional[e] for e in extras), project["dependencies"])
            brought |= {re.split(r"[\[<>=]", need)[0] for need in needs}
            brought |= {"sde"} & set(extras)
            brought |= {"tunix"} if "google-tunix" in brought else set()
    code = "\n".join("".join(cell["source"]) for cell in code_cells(path))
    imported = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    return imported - brought


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_opens_in_colab(path):
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    identities = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identities)) == len(identities)
    assert missing_packages(path) == set()


def test_a_package_that_colab_would_lack_is_told(tmp_path):
    source = (ROOT / "examples" / "weak_order.ipynb").read_text()
    path = tmp_path / "weak_order.ipynb"
    path.write_text(source.replace("pgpo-jax[sde]", "pgpo-jax[math]"))
    assert missing_packages(path) == {"sde", "matplotlib"}
    tunix = (ROOT / "examples" / "tunix.ipynb").read_text()
    path.write_text(tunix.replace("pgpo-jax[tunix]", "pgpo-jax[train]"))
    assert missing_packages(path) == {"tunix"}
    path.write_text(source.replace("%pip install", "%pip show"))
    with pytest.raises(AssertionError, match="does not say what to install"):
        missing_packages(path)


def test_a_module_that_the_site_lacks_is_told_on_the_page():
    assert doctest.testmod(notebook_needs) == (0, 2)
    notebooks = {path.name: json.loads(path.read_text())["metadata"] for path in NOTEBOOKS}
    needs = {name: metadata["needs"] for name, metadata in notebooks.items() if "needs" in metadata}
    assert needs == {"tunix.ipynb": ["tunix"]}


def test_the_list_of_examples_has_each():
    told = (ROOT / "examples" / "README.md").read_text()
    files = {path.name for kind in ("*.py", "*.ipynb") for path in (ROOT / "examples").glob(kind)}
    assert set(re.findall(r"^\| \[(.*?)\]\(\1\) \|", told, re.M)) == files


@pytest.mark.slow
def test_the_page_for_users_of_optax_quotes_its_notebook(monkeypatch):
    space = run_cells(ROOT / "examples" / "optax_loop.ipynb", monkeypatch)
    page = (ROOT / "docs" / "start-optax.md").read_text()
    quoted = re.findall(r"^\| (sure means \w+) \| ([\d.]+) \| ([\d.]+) \|", page, re.M)
    assert [world for world, *_ in quoted] == list(space["WORLDS"])
    for (_, plain, modulated), measured in zip(quoted, space["last"].tolist(), strict=True):
        # Half a unit of the last digit, and what another machine may round otherwise.
        assert [float(plain), float(modulated)] == pytest.approx(measured, abs=0.01)


@pytest.mark.slow
def test_the_notebook_on_weak_order_gives_the_verdicts_of_the_theory(monkeypatch):
    space = run_cells(ROOT / "examples" / "weak_order.ipynb", monkeypatch)
    assert [report.verdict for report in space["reports"]] == ["order 1", "order 0", "order 1"]


@pytest.mark.slow
def test_the_notebook_of_the_statements_gives_their_verdicts(monkeypatch):
    space = run_cells(ROOT / "examples" / "statements.ipynb", monkeypatch)
    found = {name: report.verdict for name, report in space["reports"].items()}
    assert len(found) == 13
    assert found == {name: sde.STATEMENTS[name].expected for name in found}
    assert space["simulated"].verdict == sde.STATEMENTS["rmsprop-population"].expected
