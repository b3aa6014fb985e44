"""The falsification test: what its arms differ in, its verdict, and a small run of all of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import _sweep, falsification
from experiments._command import make_sweep, parse
from experiments._settings import changed
from experiments._statistics import compare
from experiments.falsification import MATCHED, PAIRS, PRESETS, arms, decide, replacement
from pgpo_jax.reports import RunRecord
from tests.experiments.conftest import write_run

INFORMATION = [0.2, 0.1, 0.3, 0.05, None, 0.15]
RHO = [float(np.exp(5 * (i or 0))) for i in INFORMATION]


@pytest.fixture
def real(tmp_path):
    steps = [
        {"step": i + 1, "pgpo/information": information, "pgpo/rho": rho}
        for i, (information, rho) in enumerate(zip(INFORMATION, RHO, strict=True))
    ]
    return RunRecord("real", tmp_path, {}, steps, [], {}, [])


def test_replacements_keep_what_they_should(real):
    measured = np.nan_to_num(np.array(INFORMATION, float))
    config = changed(PRESETS["cpu"], training={"steps": len(INFORMATION)})
    values = {name: np.array(replacement(name, real, config, 3)) for name in MATCHED}
    np.testing.assert_allclose(np.exp(5 * values["constant"]), np.mean(RHO))
    assert sorted(values["shuffled"]) == sorted(measured)
    assert list(values["shuffled"]) != list(measured)
    assert set(values["random"]) <= set(measured)
    np.testing.assert_array_equal(values["other_seed"], measured)
    np.testing.assert_allclose(values["mirrored"].mean(), measured.mean())
    assert np.corrcoef(values["mirrored"], measured)[0, 1] == pytest.approx(-1)
    assert replacement("shuffled", real, config, 3) == tuple(values["shuffled"])
    assert replacement("shuffled", real, config, 4) != tuple(values["shuffled"])


def test_arms_differ_in_the_signal_alone(real):
    config = changed(PRESETS["cpu"], training={"steps": 6})
    base = config.training
    for arm in arms(config):
        made = arm.config(1, lambda name, seed: real)
        same = changed(
            made,
            method=base.method,
            seed=base.seed,
            information=vars(base.information),
            optimizer={"learning_rate": base.optimizer.learning_rate},
        )
        assert same == base, arm.name
    scaled = next(arm for arm in arms(config) if arm.name == "learning_rate")
    rate = scaled.config(1, lambda name, seed: real).optimizer.learning_rate
    assert rate == pytest.approx(base.optimizer.learning_rate * np.mean(RHO))


def test_another_seed_is_one_of_the_sweep():
    config = changed(PRESETS["cpu"], first_seed=3)
    other = next(arm for arm in arms(config) if arm.name == "other_seed")
    assert [other.needs(seed) for seed in (3, 4, 5)] == [
        [("real", 4)],
        [("real", 3)],
        [("real", 4)],
    ]


@pytest.mark.parametrize(
    ("gain", "noise", "words"),
    [
        (0.06, 0.01, "The information is the cause"),
        (0.0, 0.01, "The information is not the cause at this scale"),
        (0.02, 0.06, "Undecided with 12 seeds"),
    ],
)
def test_the_verdict_follows_its_rule(gain, noise, words):
    rng = np.random.default_rng(0)
    names = {name for pair in PAIRS for name in pair}
    scores = {
        name: 0.7 + gain * (name == "real") + noise * rng.standard_normal((12, 1)) + np.zeros(40)
        for name in sorted(names)
    }
    assert decide(compare(scores, PAIRS, margin=0.02), 0.02).startswith(words)


def test_flags_change_a_preset():
    flags = ["--preset", "smoke", "--seeds", "3", "--training.steps", "5"]
    config = parse(PRESETS, flags, prog="x", text=None)
    assert (config.seeds, config.training.steps, config.training.rollout.questions) == (3, 5, 2)
    with pytest.raises(ValueError, match="--preset must be one of smoke, cpu, gpu, got 'big'"):
        parse(PRESETS, ["--preset", "big"], prog="x", text=None)


@pytest.mark.usefixtures("quick_compilation")
def test_the_whole_of_it_on_a_very_small_scale(tmp_path, capsys, monkeypatch):
    """Three arms are really trained at one seed; to compile the others would take minutes."""
    really, questions = _sweep.train, [f"synthetic-letters:all:test:0:{i}" for i in range(8)]

    def train(config, folder):
        if Path(folder).parent.name in ("real", "constant", "learning_rate") and not config.seed:
            really(config, folder)
        else:
            write_run(config, folder, [0.5, 0.6], questions=questions)

    monkeypatch.setattr(_sweep, "train", train)
    flags = ["--preset", "smoke", "--output", str(tmp_path / "sweep"), "--training.steps", "1"]
    assert falsification.main(flags) == 0
    assert "report:" in capsys.readouterr().out
    results = json.loads((tmp_path / "sweep" / "results.json").read_text())
    assert results["seeds"] == [0, 1]
    assert len(results["comparisons"]) == len(PAIRS)
    assert "real − constant" in (tmp_path / "sweep" / "report.html").read_text()
    assert results["verdict"] in (tmp_path / "sweep" / "README.md").read_text()
    # Real runs, real controls: nothing is trained twice, and a smaller sweep is refused a report.
    before = sorted((tmp_path / "sweep").glob("runs/*/*/metrics.jsonl"))
    stamps = [path.stat().st_mtime_ns for path in before]
    assert falsification.main([*flags, "--report-only"]) == 0
    assert [path.stat().st_mtime_ns for path in before] == stamps
    sweep = make_sweep("falsification", parse(PRESETS, flags, prog="x", text=None), arms)
    constant, rate = (sweep.record(name, 0).steps[0] for name in ("constant", "learning_rate"))
    assert constant["loss"] == rate["loss"]
    (sweep.run_folder("real", 0) / "done.json").unlink()
    assert falsification.main([*flags, "--report-only"]) == 2
    assert "at least 2 seeds with all arms, has 1" in capsys.readouterr().err
