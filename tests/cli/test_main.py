import importlib.util
import logging
import sys
from types import ModuleType

import numpy as np
import pytest

import pgpo_jax
from pgpo_jax.cli import _main, main


@pytest.fixture
def failing(monkeypatch):
    """Makes `pgpo failing` do what the test wants."""

    def install(action):
        module = ModuleType("pgpo_jax.cli._failing")
        module.__dict__["main"] = lambda argv: action()
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(_main.COMMANDS, "failing", _main.Command("_failing", "fails"))

    return install


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    names = [
        "demo",
        "train",
        "sft",
        "plan",
        "eval",
        "sample",
        "export",
        "convert",
        "inspect",
        "report",
        "weak-order",
        "experiment",
    ]
    assert list(_main.COMMANDS) == names
    for name in names:
        assert f"\n  {name} " in shown
    assert main([]) == 2


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == pgpo_jax.__version__


def test_an_unknown_command_is_named_with_those_there_are(capsys):
    assert main(["tarin"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "'tarin'" in message
    assert "train" in message


def test_our_errors_are_one_line(failing, capsys):
    failing(lambda: pgpo_jax.scale_by_information(rho_max=0.5))
    assert main(["failing"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("pgpo: error: ")
    assert message.count("\n") == 1
    assert "rho_max" in message
    assert "0.5" in message


def test_our_errors_keep_their_traceback_on_request(failing, monkeypatch):
    monkeypatch.setenv("PGPO_TRACEBACK", "1")
    failing(lambda: pgpo_jax.scale_by_information(rho_max=0.5))
    with pytest.raises(ValueError, match="rho_max"):
        main(["failing"])


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (lambda: np.zeros(2).reshape(3), ValueError),
        (lambda: {}["absent"], KeyError),
        (lambda: pgpo_jax.multiplier(), TypeError),
        (lambda: int("x"), ValueError),
    ],
    ids=["library", "key", "bad call", "builtin"],
)
def test_bugs_keep_their_traceback(failing, action, error):
    failing(action)
    with pytest.raises(error):
        main(["failing"])


def test_files_and_missing_extras_are_the_users_to_put_right(
    failing, tmp_path, capsys, monkeypatch
):
    failing(lambda: (tmp_path / "absent.json").read_text())
    assert main(["failing"]) == 2
    assert "absent.json" in capsys.readouterr().err

    # Every command that needs an extra names all that is missing of it, before it is imported.
    absent = {"flax", "tyro", "diffrax"}
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in absent else find(name)
    )
    for name, command in _main.COMMANDS.items():
        if command.extra is None:
            continue
        assert main([name]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert f"pip install 'pgpo-jax[{command.extra}]'" in message
        assert {part for part in absent if part in message} == (
            {"flax", "tyro"} if command.extra == "train" else {"diffrax", "tyro"}
        )

    def without_own_module():
        raise ModuleNotFoundError("No module named 'pgpo_jax.nonsense'", name="pgpo_jax.nonsense")

    failing(without_own_module)
    with pytest.raises(ModuleNotFoundError):
        main(["failing"])


def test_interruption(failing, capsys):
    def interrupt():
        raise KeyboardInterrupt

    failing(interrupt)
    assert main(["failing"]) == 130
    assert capsys.readouterr().err == "pgpo: interrupted\n"


def test_warnings_are_shown_once_and_leave_no_handler(failing, capsys):
    failing(lambda: logging.getLogger("pgpo_jax").warning("3 questions are left out"))
    before = list(logging.getLogger("pgpo_jax").handlers)
    for _ in range(2):
        assert main(["failing"]) == 0
        assert capsys.readouterr().err == "pgpo: 3 questions are left out\n"
    assert logging.getLogger("pgpo_jax").handlers == before
    assert logging.getLogger("pgpo_jax").propagate
