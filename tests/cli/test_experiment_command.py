import sys

import pytest

import experiments
from pgpo_jax.cli import main
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
