"""The notebooks run, hold no outputs in the repository, and give the numbers that pages quote."""

import json
import re

import jax
import pytest

import sde
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
