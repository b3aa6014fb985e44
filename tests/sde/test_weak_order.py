"""The command line of the weak-order experiment."""

import json

import pytest

from experiments import weak_order


def test_one_statement_writes_what_a_referee_reads(tmp_path, capsys):
    code = weak_order.main(
        ["--statement", "delayed-signal", "--output", str(tmp_path), "--run", "x"]
    )
    assert code == 0
    shown = capsys.readouterr().out
    assert "delayed-signal" in shown
    assert "order 1" in shown
    folder = tmp_path / "x"
    assert json.loads((folder / "config.json").read_text())["statement"] == "delayed-signal"
    (result,) = json.loads((folder / "results.json").read_text())
    assert result["verdict"] == result["expected"] == "order 1"
    assert "| delayed-signal |" in (folder / "README.md").read_text()
    for name in ("delayed-signal.png", "variance.png"):
        assert (folder / name).stat().st_size > 1000


def test_a_surprise_is_an_exit_code(tmp_path):
    etas = [str(2.0**-k) for k in range(5, 9)]
    code = weak_order.main(
        [
            *("--statement", "delayed-signal", "--etas", *etas),
            *("--output", str(tmp_path), "--no-plots"),
        ]
    )
    assert code == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "choose one of"),
        (["--all", "--statement", "sgd-eq7"], "choose one of"),
        (["--statement", "thm9"], "unknown statement 'thm9'; there are sgd-eq7"),
        (["--chain", "sgd", "--equation", "eq7"], "needs --problem, --chain and --equation"),
        (["--problem", "cubic", "--chain", "sgd", "--equation", "eq7"], "unknown problem 'cubic'"),
    ],
)
def test_requests_that_are_refused(tmp_path, capsys, args, message):
    assert weak_order.main([*args, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
