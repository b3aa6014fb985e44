"""The notebook of Tunix, where Tunix is installed: it learns what the hint says."""

import json
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("tunix", reason="the extra 'tunix' is not installed", exc_type=ImportError)

FILE = Path(__file__).parents[2] / "examples" / "tunix.ipynb"
# Tunix mixes dtypes and calls what is deprecated.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_the_notebook_learns_what_the_hint_says():
    cells = json.loads(FILE.read_text())["cells"]
    *training, last = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    space = {"__name__": FILE.stem}
    with jax.numpy_dtype_promotion("standard"):
        for cell in training[:2]:
            exec(compile(cell, FILE.name, "exec"), space)
        # The control: before the distillation it does not know the answers.
        exec(compile(last, FILE.name, "exec"), space)
        assert space["right"] <= 4
        exec(compile(training[2], FILE.name, "exec"), space)
        exec(compile(last, FILE.name, "exec"), space)
    assert space["right"] >= 7
    information, rho = (np.array(space["history"][f"pgpo/{n}"]) for n in ("information", "rho"))
    assert len(information) == 40
    assert information[0] > 1
    np.testing.assert_allclose(rho, np.minimum(np.exp(information), 2.0), rtol=1e-4)
