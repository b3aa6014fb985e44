"""The Python blocks of short pages run, one program a page."""

import json
import re
import shlex

import jax
import pytest
import tyro

from pgpo_jax.cli import main
from pgpo_jax.training import PRESETS
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


PAGES = (
    "run-folder.md",
    "start-optax.md",
    "start-training.md",
    # Three measurements of an order.
    pytest.param("start-sde.md", marks=pytest.mark.slow),
)


@pytest.mark.parametrize("page", PAGES)
def test_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space = run_blocks((ROOT / "docs" / page).read_text(), page)
    if page == "start-optax.md":
        assert abs(float(space["information"]) - 1.50) < 0.005
        assert float(space["state"][-1].rho) == 2.0
    if page == "start-sde.md":
        # What the comments of the page say.
        told = capsys.readouterr().out.splitlines()
        assert [told[0], told[2], told[-1]] == ["order 1", "order 0", "order 1"]


class ParsedError(Exception):
    """The flags of a command are right; what it would do is not done."""


def commands(text):
    """The `pgpo` commands in the blocks of a page, as lists of arguments."""
    found = re.findall(r"^```bash\n(.*?)^```", text, re.S | re.M)
    lines = "".join(found).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0] == "pgpo"]


def parse_only(arguments, monkeypatch):
    def parsed(*values, **settings):
        cli_of_tyro(*values, **settings)
        raise ParsedError

    cli_of_tyro = tyro.cli
    with monkeypatch.context() as patch:
        patch.setattr(tyro, "cli", parsed)
        return main(arguments)


@pytest.mark.parametrize(("page", "count"), [("start-training.md", 10), ("start-sde.md", 2)])
def test_the_commands_of_a_page_have_the_flags_that_they_use(page, count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The run that the page resumes.
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    config = json.dumps(PRESETS["tiny"].to_json())
    (tmp_path / "runs" / "mine" / "config.json").write_text(config)
    found = commands((ROOT / "docs" / page).read_text())
    assert len(found) == count
    for arguments in found:
        with pytest.raises(ParsedError):
            parse_only(arguments, monkeypatch)


def test_a_flag_that_a_command_lacks_is_told(monkeypatch, capsys):
    (arguments,) = commands("```bash\npgpo train --no-such-flag 1 \\\n  --steps 2  # text\n```\n")
    assert arguments == ["train", "--no-such-flag", "1", "--steps", "2"]
    assert parse_only(arguments, monkeypatch) == 2
    assert "no-such-flag" in capsys.readouterr().err


def test_a_page_that_fails_is_told():
    with pytest.raises(ZeroDivisionError):
        run_blocks("Text.\n\n```python\nx = 1\n```\n\n```python\nx / 0\n```\n", "page.md")
    with pytest.raises(AssertionError, match=r"page\.md has no block"):
        run_blocks("Text.", "page.md")
