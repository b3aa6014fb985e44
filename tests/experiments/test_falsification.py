"""The falsification test: what its arms differ in, its verdict, and a small run of all of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import falsification
from experiments.sweeps import SETTLED, _sweep, changed, compare, make_sweep, parse
from experiments.sweeps.falsification import MATCHED, PAIRS, PRESETS, arms, decide, replacement
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
            seed=base.seed,
            information=vars(base.information),
            control=vars(base.control),
            optimizer={"learning_rate": base.optimizer.learning_rate},
        )
        assert same == base, arm.name
    scaled = next(arm for arm in arms(config) if arm.name == "learning_rate")
    rate = scaled.config(1, lambda name, seed: real).optimizer.learning_rate
    assert rate == pytest.approx(base.optimizer.learning_rate * np.mean(RHO))


@pytest.mark.parametrize("first", [0, 3])
def test_which_other_seed_it_is_does_not_depend_on_the_sweep(first):
    config = changed(PRESETS["cpu"], first_seed=first)
    other = next(arm for arm in arms(config) if arm.name == "other_seed")
    assert [other.needs(seed) for seed in (0, 1, 2, 3, 4)] == [
        [("real", donor)] for donor in (1, 0, 1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("gain", "noise", "words"),
    [
        (0.06, 0.01, "The information is the cause"),
        (0.0, 0.01, "The information is not the cause at this scale"),
        (0.02, 0.06, "Undecided with 12 seeds"),
        # Worse than every control is not one of the two outcomes, either.
        (-0.06, 0.01, "Undecided with 12 seeds (real against its matched controls: worse: const"),
    ],
)
def test_the_verdict_follows_its_rule(gain, noise, words):
    assert decide(compared(gain, noise, 12), 0.02).startswith(words)


@pytest.mark.parametrize("gain", [0.06, 0.0])
def test_a_few_seeds_decide_nothing_however_alike_they_are(gain):
    assert decide(compared(gain, 0.0, 2), 0.02) == (
        "2 seeds decide nothing: a verdict needs at least 6."
    )
    assert "2 seeds decide" not in decide(compared(gain, 0.0, 6), 0.02)


def test_the_seeds_that_would_decide_are_those_of_the_verdict():
    """One control is worse by half the margin for certain, the others are as good for certain."""
    found = compared(0.0, 0.0, 12, mirrored=0.03 * np.ones((12, 1)))
    assert "better: mirrored" in decide(found, 0.02)
    # All alike is out of reach: four are 0 from real, and one is outside of the margin.
    assert "No number of seeds would settle all five alike" in decide(found, 0.02)
    noisy = 0.01 + 0.02 * np.random.default_rng(1).standard_normal((12, 1))
    found = compared(0.0, 0.0, 12, mirrored=noisy)
    of_one = {c.name: c for c in found}["real − mirrored"].seeds_within_margin
    assert f"{of_one} seeds would settle" in decide(found, 0.02)


def test_worse_than_every_control_is_no_outcome_that_seeds_would_settle():
    assert "No number of seeds would settle" in decide(compared(-0.06, 0.01, 12), 0.02)


def test_the_outcome_is_the_one_that_was_fixed(tmp_path, pretend):
    """Of steps 8 to 24: an early lead counts for nothing, a late one for 1 in 5."""
    assert SETTLED(range(0, 25, 4)) == [8, 12, 16, 20, 24]

    def accuracies(config):
        real = config.label == "pgpo" and not config.control.replay
        return [0.5, 0.9, 0.6, 0.6, 0.6, 0.6, 0.7] if real else [0.5, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6]

    pretend(accuracies)
    flags = ["--seeds", "6", "--output", str(tmp_path)]
    assert falsification.main(flags) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    found = {c["name"]: c["difference"][0] for c in results["comparisons"]}
    assert found["real − constant"] == pytest.approx(0.1 / 5, abs=1e-6)
    assert results["arms"]["real"]["last"][0] == pytest.approx(0.7, abs=0.05)


def compared(gain, noise, seeds, **lower):
    rng = np.random.default_rng(0)
    names = {name for pair in PAIRS for name in pair}
    scores = {
        name: 0.7 + gain * (name == "real") + noise * rng.standard_normal((seeds, 1)) + np.zeros(40)
        for name in sorted(names)
    }
    scores |= {name: scores[name] - less for name, less in lower.items()}
    return compare(scores, PAIRS, margin=0.02)


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--alpha", "0"], "alpha must be positive and finite, got 0.0"),
        (["--margin", "0"], "margin must be in (0, 1), got 0.0"),
        (["--margin", "nan"], "margin must be in (0, 1), got nan"),
    ],
)
def test_flags_that_no_verdict_could_come_of(tmp_path, capsys, flags, rule):
    with pytest.raises(SystemExit):
        falsification.main([*flags, "--output", str(tmp_path / "sweep")])
    assert rule in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_flags_change_a_preset():
    flags = ["--preset", "smoke", "--seeds", "3", "--training.steps", "5"]
    config = parse(PRESETS, flags, prog="x", text=None)
    assert (config.seeds, config.training.steps, config.training.rollout.questions) == (3, 5, 2)
    with pytest.raises(ValueError, match="--preset must be one of smoke, cpu, gpu, got 'big'"):
        parse(PRESETS, ["--preset", "big"], prog="x", text=None)


@pytest.mark.slow
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
    printed = capsys.readouterr().out
    assert printed.count("2 seeds decide nothing") == 1
    assert "report:" in printed
    results = json.loads((tmp_path / "sweep" / "results.json").read_text())
    assert results["seeds"] == [0, 1]
    assert len(results["comparisons"]) == len(PAIRS)
    assert "real − constant" in (tmp_path / "sweep" / "report.html").read_text()
    assert {c["verdict"] for c in results["comparisons"]} == {"undecided"}
    assert "2 seeds decide nothing" in (tmp_path / "sweep" / "report.html").read_text()
    assert results["verdict"] in (tmp_path / "sweep" / "README.md").read_text()
    # Real runs, real controls: nothing is trained twice, and a smaller sweep is refused a report.
    before = sorted((tmp_path / "sweep").glob("runs/*/*/metrics.jsonl"))
    stamps = [path.stat().st_mtime_ns for path in before]
    assert falsification.main([*flags, "--report-only"]) == 0
    assert [path.stat().st_mtime_ns for path in before] == stamps
    sweep = make_sweep("falsification", parse(PRESETS, flags, prog="x", text=None), arms)
    # Nor is it said of runs at one dose what would be said at another.
    assert falsification.main([*flags, "--report-only", "--alpha", "4"]) == 2
    assert "another configuration: alpha was 5.0, now 4.0" in capsys.readouterr().err
    constant, rate = (sweep.record(name, 0).steps[0] for name in ("constant", "learning_rate"))
    assert constant["loss"] == rate["loss"]
    (sweep.run_folder("real", 0) / "done.json").unlink()
    assert falsification.main([*flags, "--report-only"]) == 2
    assert "at least 2 seeds with all arms, has 1" in capsys.readouterr().err
