"""The command line that measures the weak order."""

import csv
import dataclasses
import json
from xml.etree import ElementTree

import diffrax
import jax
import numpy as np
import pytest

import experiments.weak_order
import sde
from sde import weak_order
from sde.weak_order import _brake


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
    readme = (folder / "README.md").read_text()
    assert "| delayed-signal |" in readme
    # Every test function, not only the one that decides, there and on the terminal.
    for name, finding in result["reports"]["quadratic"]["findings"].items():
        slope = f"{finding['slope']['slope']:.2f} ± {finding['slope']['half_width']:.2f}"
        for text in (readme, shown):
            assert any(name in line and slope in line for line in text.splitlines())
    for name in ("delayed-signal.png", "variance.png"):
        assert (folder / name).stat().st_size > 1000
    assert not list(folder.glob("*.svg"))


def test_tables_and_figures_for_a_paper_name_what_they_were_made_with(tmp_path):
    code = weak_order.main(
        [
            *("--statement", "delayed-signal", "--figures", "svg", "pdf", "png"),
            *("--output", str(tmp_path), "--run", "x"),
        ]
    )
    assert code == 0
    folder = tmp_path / "x"
    (result,) = json.loads((folder / "results.json").read_text())
    beside = f"jax {jax.__version__}, diffrax {diffrax.__version__}, numpy {np.__version__}"
    assert f"{beside}; exact engines, no seed" in (folder / "README.md").read_text()

    for name in ("delayed-signal", "variance"):
        drawing = ElementTree.parse(folder / f"{name}.svg").getroot()
        told = "".join(drawing.itertext())
        assert f"{beside}; exact engines, no seed" in told
        for kind, begin in (("pdf", b"%PDF"), ("png", b"\x89PNG")):
            data = (folder / f"{name}.{kind}").read_bytes()
            assert data.startswith(begin)
            assert beside.encode() in data

    table = (folder / "table.tex").read_text()
    assert beside in table
    assert table.count(r"\begin{tabular}") == table.count(r"\end{tabular}") == 2
    # Every line has the columns of its table, and each slope is that of the results.
    lines = [line for line in table.splitlines() if " & " in line]
    assert {line.count(" & ") for line in lines} == {5, 7}
    assert all(line.endswith(r" \\") for line in lines)
    assert r"pgpo\_delayed" in lines[1]
    for name, finding in result["reports"]["quadratic"]["findings"].items():
        slope, width = (finding["slope"][key] for key in ("slope", "half_width"))
        (line,) = (line for line in lines if f" & {name} & " in line)
        assert rf"{slope:.2f} $\pm$ {width:.2f}" in line


def test_a_surprise_is_an_exit_code(tmp_path):
    etas = [str(2.0**-k) for k in range(5, 9)]
    code = weak_order.main(
        [
            *("--statement", "delayed-signal", "--etas", *etas),
            *("--output", str(tmp_path), "--no-plots"),
        ]
    )
    assert code == 1


def test_the_brake_is_measured_by_alpha(tmp_path, capsys, monkeypatch):
    crossing = _brake.Crossing(3.0, 0.1, 0.2, -0.3, -0.4)
    sliding = _brake.Sliding(3.0, -0.15, -0.16, "told", "of both")
    monkeypatch.setattr(_brake, "ALPHAS", (3.0,))
    monkeypatch.setattr(_brake, "measure_crossing", lambda alpha: crossing)
    monkeypatch.setattr(_brake, "measure_sliding", lambda alpha: sliding)
    assert weak_order.main(["--brake", "--output", str(tmp_path), "--run", "x"]) == 0
    shown = capsys.readouterr().out
    assert "-0.1500 / -0.1600" in shown
    stored = json.loads((tmp_path / "x" / "results.json").read_text())
    assert stored["crossing"] == [dataclasses.asdict(crossing)]
    assert "| 3 " in (tmp_path / "x" / "README.md").read_text()


def test_a_folder_that_cannot_be_filled_is_refused_before_anything_is_measured(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("sde.weak_order._command.measure", lambda *_: pytest.fail("it measured"))
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "results.json").write_text("[]")
    asked = ["--statement", "sgd-ode", "--output"]
    assert weak_order.main([*asked, str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err
    assert weak_order.main([*asked, str(tmp_path), "--run", "full"]) == 2
    assert "holds results already" in capsys.readouterr().err
    assert (tmp_path / "full" / "results.json").read_text() == "[]"


@pytest.mark.slow
def test_what_no_exact_engine_covers_is_measured_all_the_same(tmp_path, capsys, monkeypatch):
    report = sde.Comparison("quadratic", "sgd", "ode", observables=("mean", "m2", "m3")).order()
    noisy = dataclasses.replace(
        report, method="monte_carlo", gains={name: 0 * e + 7.0 for name, e in report.errors.items()}
    )
    monkeypatch.setattr(sde.Comparison, "order", lambda *_: noisy)
    code = weak_order.main(
        [
            *("--problem", "student_teacher", "--chain", "pgpo_ema", "--equation", "thm2ii"),
            *("--method", "monte_carlo", "--no-plots", "--output", str(tmp_path), "--run", "x"),
        ]
    )
    assert code == 0
    (result,) = json.loads((tmp_path / "x" / "results.json").read_text())
    assert result["largest_z"] == {}
    assert "| 2^-5 | none |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "choose one of"),
        (["--all", "--statement", "sgd-eq7"], "choose one of"),
        (["--statement", "thm9"], "unknown statement 'thm9'; there are sgd-eq7"),
        (["--chain", "sgd", "--equation", "eq7"], "needs --problem, --chain and --equation"),
        (["--statement", "rmsprop-corrected"], "covers 'rmsprop-corrected': give --method monte"),
        (["--viscous", "--csv", "a.csv"], "--viscous takes no --csv"),
        (["--viscous", "--batch-size", "2"], "--viscous takes no --batch-size"),
        (["--kink", "--problem", "quadratic"], "--kink takes no --problem"),
        (["--brake", "--paths", "8"], "--brake takes no --paths"),
        (["--kink", "--normals", "float32"], "--kink takes no --normals"),
        (["--statement", "sgd-ode", "--normals", "float32"], "is of --method monte_carlo"),
        (["--brake", "--kink"], "choose one of"),
        (["--kink", "--figures", "svg"], "--kink takes no --figures"),
        (["--statement", "sgd-ode", "--figures", "jpg"], "jpg"),
        (["--statement", "sgd-ode", "--no-plots", "--figures", "svg"], "takes no --figures"),
        (["--statement", "sgd-ode", "--etas", "0.3", "0.1"], "eta must divide"),
        (["--problem", "cubic", "--chain", "sgd", "--equation", "eq7"], "unknown problem 'cubic'"),
    ],
)
def test_requests_that_are_refused(tmp_path, capsys, args, message):
    assert weak_order.main([*args, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_experiment_of_that_name_is_this_command(tmp_path, capsys):
    asked = ["--statement", "delayed-signal", "--output", str(tmp_path), "--no-plots", "--run"]
    assert experiments.weak_order.main([*asked, "x"]) == 0
    assert weak_order.main([*asked, "y"]) == 0
    first, second = [
        json.loads((tmp_path / run / "results.json").read_text())[0] for run in ("x", "y")
    ]
    for result in (first, second):
        assert result.pop("seconds") > 0
        for report in result["reports"].values():
            assert report.pop("seconds") > 0
    assert first == second
    assert experiments.weak_order.main(["--statement", "thm9"]) == 2
    assert "unknown statement 'thm9'" in capsys.readouterr().err


def test_a_wrong_flag_is_one_line(capsys):
    assert weak_order.main(["--bogus"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "--bogus" in told[0]
    # The control: a flag that there is gets further.
    with pytest.raises(SystemExit) as end:
        weak_order.main(["--help"])
    assert end.value.code == 0


OWN = """
import dataclasses
import jax.numpy as jnp
import sde


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tilted(sde.problems.Quadratic):
    theta0: tuple[float, ...] = (0.7,)


@dataclasses.dataclass(frozen=True)
class Bare(sde.problems.Quadratic):
    size: float


def advance(problem, theta, examples, eta):
    rho = problem.multiplier(problem.signals(theta)[examples].mean())
    return theta - eta * rho * problem.gradients(theta)[examples].mean(0)


walk = sde.StateChain(lambda problem: problem.start, advance, lambda theta: theta, name="walk")
wild = sde.StateChain(
    lambda problem: problem.start, lambda p, s, e, eta: s * 1e200, lambda s: s, limit=walk
)
ten = 10
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return str(path)


def test_a_problem_and_a_chain_of_ones_own_by_file_and_name(own, tmp_path, capsys):
    numbers = tmp_path / "numbers.csv"
    asked = [
        *("--problem", f"{own}:Tilted", "--chain", f"{own}:walk", "--equation", "corrected"),
        *("--output", str(tmp_path), "--run", "x", "--csv", str(numbers)),
    ]
    assert weak_order.main(asked) == 0
    assert "Tilted-walk-corrected" in capsys.readouterr().out
    (result,) = json.loads((tmp_path / "x" / "results.json").read_text())
    report = result["reports"]["Tilted"]
    assert result["verdict"] == "order 1"
    assert (report["problem"], report["chain"]) == ("Tilted", "walk")
    known = sde.weak_errors(
        dataclasses.replace(sde.PROBLEMS["quadratic"], theta0=(0.7,)),
        *("pgpo_minibatch", "corrected"),
        etas=report["etas"],
        observables=("mean",),
    )
    np.testing.assert_allclose(report["errors"]["mean"], known.terminal[:, 0], atol=1e-12)
    # The table has the same numbers, and what it takes to measure them again.
    with numbers.open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * len(report["etas"])
    of_mean = [float(line["error"]) for line in lines if line["observable"] == "mean"]
    assert of_mean == report["errors"]["mean"]
    assert {line["jax"] for line in lines} == {jax.__version__}
    assert {line["seed"] for line in lines} == {"0"}
    assert {(line["horizon"], line["substeps"]) for line in lines} == {("1.0", "")}
    versions = json.loads((tmp_path / "x" / "config.json").read_text())["versions"]
    assert versions["jax"] == jax.__version__
    # It is not overwritten.
    assert weak_order.main([*asked[:-3], "y", *asked[-2:]]) == 2
    assert "--csv must be a new file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": "{}:Flat"}, "does not define 'Flat'; it defines Bare, OWN"),
        ({"problem": "{}:walk"}, "must be a sde.Problem or a class of them, got StateChain"),
        ({"problem": "{}:Bare"}, "must be a problem whose fields all have defaults"),
        ({"chain": "{}:ten"}, "must be a sde.Chain or a class of them, got int"),
        ({"chain": "none/own.py:walk"}, "which does not exist"),
        ({"equation": "{}:walk"}, "must be a sde.Equation"),
        ({"csv": "none/numbers.csv"}, "--csv must be in a folder that exists"),
        (
            {"chain": "{}:wild", "method": "monte_carlo", "paths": "8"},
            "not finite (chain, eta=0.0625): the step is too large",
        ),
    ],
)
def test_own_things_that_are_refused(own, tmp_path, capsys, change, message):
    asked = {"problem": "{}:Tilted", "chain": "{}:walk", "equation": "corrected"} | change
    flags = [part for k, v in asked.items() for part in (f"--{k}", v.format(own))]
    assert weak_order.main([*flags, "--output", str(tmp_path / "out")]) == 2
    assert message.replace("OWN, ", "").replace(", OWN", "") in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


def test_monte_carlo_tells_how_far_it_is():
    told = []
    scheme = sde.MonteCarlo(
        paths=8, richardson=False, substeps=2, control_variate=False, progress=told.append
    )
    sde.Comparison("quadratic", "sgd", "eq7", etas=(1 / 4, 1 / 8)).order(scheme)
    assert len(told) == 3
    assert "2 step sizes, 8 paths each" in told[0]
    assert "1 of 2, eta=0.25: chain " in told[1]
    assert "2 of 2, eta=0.125: chain " in told[2]
