"""The information budget beside its controls: the arms, the verdicts."""

import dataclasses
import json

import pytest

from experiments import budget
from experiments.sweeps.budget import CONTROLS, PRESETS, arms
from pgpo_jax.reports import read_run
from tests.experiments.conftest import write_run


def test_arms_are_what_their_names_say(tmp_path):
    config = PRESETS["cpu"]
    signal = [0.2, -0.4] * 30
    write_run(config.training, tmp_path / "run", [0.5], signal=signal)
    built = {
        arm.name: arm.config(2200, lambda name, seed: read_run(tmp_path / "run"))
        for arm in arms(config)
    }
    assert set(CONTROLS) < set(built)
    assert {made.optimizer.learning_rate for made in built.values()} == {3e-4}
    assert {name for name, made in built.items() if made.teacher.kind != "live"} == {"trust_region"}
    assert {name for name, made in built.items() if made.information.budget} == {"budget", "radius"}
    assert {name for name, made in built.items() if made.control.replay} == {"constant", "radius"}
    # Half of the steps have .2 nats, the others none.
    assert built["radius"].control.replay == (pytest.approx(0.1),) * 60
    assert len({*built["constant"].control.replay}) == 1
    assert {made.information.estimator for made in built.values()} == {
        "entropy", "pointwise", "outcome_contrast",
    }  # fmt: skip
    assert built["brake"].information.rho_max == 1.0
    assert built["sdpo"].alpha == 0.0


def arm_of(config):
    if config.information.budget:
        return "radius" if config.control.replay else "budget"
    if config.teacher.kind == "trust_region":
        return "trust_region"
    if not config.alpha:
        return "sdpo"
    estimator = config.information.estimator
    return "constant" if config.control.replay else "brake" if estimator == "entropy" else estimator


@pytest.mark.parametrize(
    ("ends", "saved", "size"),
    [
        ({"budget": 0.9, "radius": 0.7}, "holds", "holds"),
        ({"budget": 0.9, "radius": 0.9}, "holds", "refuted"),
        ({"budget": 0.9, "radius": 0.9, "constant": 0.9}, "refuted", "refuted"),
        ({"radius": 0.9, "constant": 0.9}, "refuted", "refuted"),
    ],
)
def test_verdicts(tmp_path, pretend, ends, saved, size):
    def accuracies(config):
        # All others collapse.
        end = ends.get(arm_of(config), 0.06)
        return [0.5] + [end] * 2

    pretend(accuracies)
    flags = ["--preset", "smoke", "--seeds", "10", "--output", str(tmp_path)]
    assert budget.main(flags) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert f"saves runs: {saved}; " in results["verdict"]
    assert f"what counts: {size}." in results["verdict"]
    assert len(results["areas"]) == len(results["collapses"]) == 5
    assert (tmp_path / "report.html").is_file()


def test_fewer_seeds_than_planned_have_no_verdict(tmp_path, pretend):
    pretend(lambda config: [0.5, 0.9, 0.9])
    flags = ["--preset", "smoke", "--seeds", "6", "--planned", "7", "--output", str(tmp_path)]
    assert budget.main(flags) == 0
    verdict = json.loads((tmp_path / "results.json").read_text())["verdict"]
    assert verdict == "6 seeds decide nothing: the rules ask for 7."


def test_a_budget_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="budget must be positive and finite, got 0"):
        dataclasses.replace(PRESETS["cpu"], budget=0.0)
