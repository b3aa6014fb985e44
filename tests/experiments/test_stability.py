"""Collapse: its definition on known curves, the grid, and the two reports."""

import json

import pytest

from experiments import stability
from experiments.sweeps import changed, collapse_step, first_negative
from experiments.sweeps.stability import PRESETS, Setting, arms
from pgpo_jax.reports import RunRecord, read_run
from tests.experiments.conftest import write_run

BASE = changed(PRESETS["cpu"].training, steps=20)


@pytest.mark.parametrize(
    ("accuracies", "step"),
    [
        ([0.5, 0.6, 0.7, 0.8, 0.8], None),
        ([0.5, 0.6, 0.2, 0.1, 0.0], 10),
        # Back above half of the start: it had not collapsed for good.
        ([0.5, 0.1, 0.1, 0.4, 0.4], None),
        ([0.5, 0.1, 0.4, 0.4, 0.2], 20),
    ],
)
def test_collapse_is_a_fall_without_return(tmp_path, accuracies, step):
    write_run(BASE, tmp_path / "run", accuracies)
    assert collapse_step(read_run(tmp_path / "run")) == step


def test_a_run_that_was_stopped_collapsed_there(tmp_path):
    write_run(BASE, tmp_path / "run", [0.5, 0.6], steps=9)
    assert collapse_step(read_run(tmp_path / "run")) == 9


def test_a_run_that_was_stopped_is_not_judged_by_its_beginning(tmp_path, pretend):
    """The gradient of `pgpo` is not finite after the first of two steps."""
    pretend(lambda config: [0.5, 0.6] if config.label == "pgpo" else [0.5, 0.6, 0.1])
    flags = ["--preset", "smoke", "--part", "arms", "--output", str(tmp_path)]
    assert stability.main(flags) == 0
    accuracy = json.loads((tmp_path / "results.json").read_text())["accuracy"]
    assert accuracy["sdpo"][0] == pytest.approx((0.6 + 0.1) / 2, abs=0.05)
    assert accuracy["pgpo"][0] == pytest.approx((0.6 + 0.0) / 2, abs=0.05)


def test_the_first_step_of_negative_information(tmp_path):
    rows = [{"step": i + 1, "pgpo/information": x} for i, x in enumerate([0.1, None, -0.2, 0.3])]
    assert first_negative(RunRecord("a", tmp_path, {}, rows, [], {}, [])) == 3
    assert first_negative(RunRecord("a", tmp_path, {}, rows[:2], [], {}, [])) is None


def test_the_grid_and_the_arms(tmp_path):
    screen = {arm.name: arm.config(1, None) for arm in arms(PRESETS["cpu"])}
    assert len(screen) == 16
    assert screen["0.0015-live-0.6"].teacher.kind == "live"
    assert screen["0.0015-live-0.6"].control.misleading == 0.6
    assert screen["0.0015-live-0.6"].label == "sdpo"
    write_run(BASE, tmp_path / "run", [0.5, 0.6], rho=1.5)
    config = changed(PRESETS["cpu"], part="arms", setting=Setting(2e-3, "live", 0.3))
    built = {
        arm.name: arm.config(1, lambda name, seed: read_run(tmp_path / "run"))
        for arm in arms(config)
    }
    assert {c.optimizer.learning_rate for c in built.values()} == {2e-3}
    assert {c.control.misleading for c in built.values()} == {0.3}
    assert built["matched"].control.replay == pytest.approx([0.0811] * 40, abs=1e-4)
    assert built["floor"].information.rho_min == 1
    assert built["flipped"].control.flip


def test_both_reports(tmp_path, pretend):
    def falls(config):
        unstable = config.teacher.kind == "live" and not config.control.flip
        return [0.5, 0.6, 0.1] if unstable else [0.5, 0.6, 0.7]

    pretend(falls)
    flags = ["--preset", "smoke", "--seeds", "3"]
    assert stability.main([*flags, "--output", str(tmp_path / "screen")]) == 0
    results = json.loads((tmp_path / "screen" / "results.json").read_text())
    assert results["verdict"].endswith("in 1 of 2 settings: 0.005-live-0.")
    assert results["collapse steps"]["0.005-live-0"] == [2, 2, 2]
    assert results["first steps of negative information"]["0.005-live-0"] == [None] * 3
    flags += ["--part", "arms", "--setting.teacher", "live", "--output", str(tmp_path / "arms")]
    assert stability.main(flags) == 0
    results = json.loads((tmp_path / "arms" / "results.json").read_text())
    assert results["verdict"].startswith("3 seeds decide nothing: a verdict needs at least 6. At")
    assert "sdpo 3/3" in results["verdict"]
    assert "flipped 0/3" in results["verdict"]
