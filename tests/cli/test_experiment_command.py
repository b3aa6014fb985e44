import importlib.util
import sys

import pytest

import experiments
from pgpo_jax.cli import _experiment, main
from pgpo_jax.cli._experiment import experiments as installed

SOURCE = "def main(argv):\n    print('ran with', argv)\n    return len(argv) - 2\n"


@pytest.fixture
def hello(tmp_path, monkeypatch):
    """An experiment named `hello_there`."""
    (tmp_path / "hello_there.py").write_text(SOURCE)
    (tmp_path / "_helper.py").write_text("")
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(tmp_path)])
    yield
    sys.modules.pop("experiments.hello_there", None)


def test_an_experiment_gets_its_arguments(hello, capsys):
    assert main(["experiment", "hello-there", "--preset", "smoke"]) == 0
    assert capsys.readouterr().out == "ran with ['--preset', 'smoke']\n"


def test_its_exit_code_is_that_of_the_command(hello):
    assert main(["experiment", "hello-there", "--preset", "smoke", "--jobs"]) == 1


def test_a_refused_measurement_of_the_order_is_an_exit_code(capsys):
    assert main(["weak-order", "--statement", "thm9"]) == 2
    assert "unknown statement 'thm9'" in capsys.readouterr().err


@pytest.mark.parametrize("name", installed())
def test_every_experiment_takes_its_flags_from_the_command_line(name, capsys):
    with pytest.raises(SystemExit) as end:
        main(["experiment", name, "--help"])
    assert end.value.code == 0
    assert f"python -m experiments.{name}" in capsys.readouterr().out


def test_an_unknown_experiment_lists_those_there_are(hello, capsys):
    assert main(["experiment", "hallo"]) == 2
    message = capsys.readouterr().err
    assert "'hallo'" in message
    assert "hello_there" in message
    assert "_helper" not in message


def test_help_lists_them(hello, capsys):
    assert main(["experiment", "--help"]) == 0
    assert "hello_there" in capsys.readouterr().out


OURS = '[project]\nname = "pgpo-jax"\n'
OTHER = '[project]\nname = "my-study"\n'


@pytest.fixture
def another_package(tmp_path, monkeypatch):
    """A package `experiments` of somebody else, found before ours; its code must not run."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("print('it ran')")
    (tmp_path / "experiments" / "their_study.py").write_text(SOURCE)
    monkeypatch.delitem(sys.modules, "experiments")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("experiments.their_study", None)


@pytest.mark.parametrize("args", [[], ["their-study", "--preset", "smoke"]])
def test_without_the_package_it_is_said_where_experiments_are(monkeypatch, capsys, args):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["experiment", *args]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "not in the wheel" in shown.err
    assert "python -m experiments.NAME" in shown.err


@pytest.mark.parametrize("args", [[], ["their-study", "--preset"]])
def test_the_package_of_somebody_else_is_not_run(another_package, capsys, args):
    assert main(["experiment", *args]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert f"{another_package / 'experiments' / '__init__.py'} is another package" in shown.err
    assert "python -m experiments.NAME" in shown.err


@pytest.mark.parametrize(("project", "code"), [(None, 2), (OTHER, 2), (OURS, 0)])
def test_a_package_beside_ours_counts_in_our_checkout_only(
    another_package, monkeypatch, capsys, project, code
):
    # As in `site-packages`, or in a project into whose folder ours was installed.
    monkeypatch.setattr(_experiment, "_checkout", lambda: another_package)
    if project is not None:
        (another_package / "pyproject.toml").write_text(project)
    assert main(["experiment", "their-study", "--preset", "smoke"]) == code
    assert ("ran with" in capsys.readouterr().out) == (code == 0)
