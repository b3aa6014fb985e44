import shutil
from pathlib import Path

import pytest

from pgpo_jax.cli import main
from pgpo_jax.cli._report import short_names
from pgpo_jax.reports import printable

DATA = Path(__file__).parents[1] / "reports" / "data"


def test_any_runs_are_compared(tmp_path, capsys):
    other = Path(shutil.copytree(DATA / "pgpo", tmp_path / "again" / "pgpo"))
    page = tmp_path / "out" / "r.html"
    folders = [str(DATA / "sdpo"), str(DATA / "pgpo"), str(other)]
    assert main(["report", *folders, "--output", str(page)]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[2:5]] == [
        "data/sdpo",
        "data/pgpo",
        "again/pgpo",
    ]
    assert "again/pgpo" in page.read_text()


def test_bad_folders_are_one_line(tmp_path, capsys):
    page = tmp_path / "r.html"
    assert main(["report", str(tmp_path), "--output", str(page)]) == 2
    assert "there is no run in" in capsys.readouterr().err
    assert main(["report", str(DATA / "sdpo"), str(DATA / "sdpo"), "--output", str(page)]) == 2
    assert "once only" in capsys.readouterr().err
    assert not page.exists()


def test_help_and_usage(capsys):
    with pytest.raises(SystemExit) as end:
        main(["report", "--help"])
    assert end.value.code == 0
    assert "--output" in capsys.readouterr().out
    assert main(["report", "--nonsense"]) == 2
    assert capsys.readouterr().err.startswith("pgpo: error: ")


def test_short_names():
    assert short_names([Path("a/x"), Path("b/y")]) == ["x", "y"]
    assert short_names([Path("a/x"), Path("b/x")]) == ["a/x", "b/x"]


def test_terminal_escapes_of_a_model_are_shown_not_obeyed():
    assert printable("a\x1b]0;title\x07\nb\u202e") == "a\\x1b]0;title\\x07\nb\\u202e"
    assert printable("ρ = 1.04\tok") == "ρ = 1.04\tok"
