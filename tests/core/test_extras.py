"""A missing extra is told in one line that names every package."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pgpo_jax._extras import EXTRAS, require_extra
from pgpo_jax.errors import PGPOImportError

ROOT = Path(__file__).resolve().parents[2]
# For a child process: its finders do not find some packages.
WITHOUT = """
import sys
class Without:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {hidden!r}:
            return self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""
LINE = "this needs diffrax, scipy: pip install 'pgpo-jax[sde]'"


def run_without(hidden: set[str], code: str) -> subprocess.CompletedProcess[str]:
    program = WITHOUT.format(hidden=hidden) + code
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_every_missing_package_is_named_at_once(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n in ("scipy", "diffrax") else find(n)
    )
    with pytest.raises(PGPOImportError) as refused:
        require_extra("sde")
    assert str(refused.value) == LINE
    assert refused.value.__cause__ is refused.value.__context__ is None
    # The other extra needs neither.
    require_extra("train")


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_package_of_an_extra_is_looked_for(monkeypatch, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PGPOImportError) as refused:
        require_extra(extra)
    assert str(refused.value).startswith(f"this needs {', '.join(EXTRAS[extra])}: ")


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_table_has_what_the_project_declares(extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {
        re.split(r"[<>=]", line)[0].replace("-", "_")
        for line in project["optional-dependencies"][extra]
    } - {"jax"}
    # The one whose distribution has another name than its package.
    declared = {"orbax" if name == "orbax_checkpoint" else name for name in names}
    assert set(EXTRAS[extra]) - declared <= {"equinox"}
    assert declared <= set(EXTRAS[extra])


def test_importing_sde_names_them_and_shows_no_deeper_import():
    done = run_without({"diffrax", "scipy"}, "import sde")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"pgpo_jax.errors.PGPOImportError: {LINE}"
    assert done.stderr.count("Traceback") == 1
    assert "No module named" not in done.stderr


def test_the_command_says_it_in_one_line():
    code = "from pgpo_jax.cli import main\nraise SystemExit(main(['weak-order', '--all']))"
    done = run_without({"diffrax", "scipy"}, code)
    assert done.returncode == 2
    assert done.stderr == f"pgpo: error: {LINE}\n"


@pytest.mark.slow
def test_what_is_not_needed_may_be_missing():
    # `experiments` is not in the wheel, and the command is.
    code = "from pgpo_jax.cli import main\nraise SystemExit(main(['weak-order', '--help']))"
    done = run_without({"flax", "transformers", "experiments"}, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: pgpo weak-order")
