"""The Python blocks of short pages run, one program a page."""

import re

import jax
import pytest

from tools.docs.public_api import ROOT


def run_blocks(text, page):
    """Executes the Python blocks of a page as one program, and gives its names."""
    space = {"__name__": page}
    found = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    assert found, f"{page} has no block of Python"
    # optax's Adam mixes types, which the strict regime of the suite would refuse.
    with jax.numpy_dtype_promotion("standard"):
        for block in found:
            exec(compile(block, page, "exec"), space)
    return space


@pytest.mark.parametrize("page", ["run-folder.md"])
def test_page_runs(page):
    run_blocks((ROOT / "docs" / page).read_text(), page)


def test_a_page_that_fails_is_told():
    with pytest.raises(ZeroDivisionError):
        run_blocks("Text.\n\n```python\nx = 1\n```\n\n```python\nx / 0\n```\n", "page.md")
    with pytest.raises(AssertionError, match=r"page\.md has no block"):
        run_blocks("Text.", "page.md")
