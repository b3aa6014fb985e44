"""The arms of the baselines differ in what their names say, and controls are told from gains."""

import json

import pytest

from experiments import baselines
from experiments.sweeps.baselines import MULTIPLIERS, PAIRS, PRESETS, arms
from pgpo_jax.reports import read_run
from tests.experiments.conftest import write_run


def program(config):
    """What a compiled step is made of, beside settings that all arms share."""
    return config.make_objective().program(), config.make_optimizer().update


def test_arms_are_what_their_names_say(tmp_path):
    config = PRESETS["cpu"]
    write_run(config.training, tmp_path / "run", [0.5], rho=1.5)
    built = {
        arm.name: arm.config(3, lambda name, seed: read_run(tmp_path / "run"))
        for arm in arms(config)
    }
    assert {name for pair in PAIRS for name in pair} == set(built)
    assert built["grpo"].objective == "grpo"
    assert built["warmup"].optimizer.schedule == "cosine"
    assert built["token"].loss.modulation == "token"
    assert built["failures"].control.rows == "failures"
    assert built["contrast"].information.estimator == "outcome_contrast"
    assert built["adaptive"].information.target_rho == 1.6
    # A control is plain PGPO that is given a constant, so all of them share one program.
    programs = {program(built[f"{name}_matched"]) for name in MULTIPLIERS}
    assert programs == {program(built["pgpo"])}
    assert program(built["adaptive"]) not in programs
    assert built["outcome_matched"].control.replay[0] == pytest.approx(0.0811, abs=1e-4)


def test_a_longer_step_is_not_taken_for_a_better_signal(tmp_path, pretend):
    def accuracies(config):
        gain = 0.1 if config.label == "pgpo" else 0.0
        gain += 0.1 * (config.information.estimator == "outcome")
        return [0.5, 0.6 + gain, 0.6 + gain]

    pretend(accuracies)
    flags = ["--preset", "smoke", "--seeds", "6", "--output", str(tmp_path)]
    assert baselines.main(flags) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    verdicts = {c["name"]: c["verdict"] for c in results["comparisons"]}
    assert verdicts["pgpo − sdpo"] == "better"
    assert verdicts["pgpo − pgpo_matched"] == "no difference that matters"
    assert verdicts["outcome − outcome_matched"] == "better"
    assert verdicts["grpo − sdpo"] == "no difference that matters"
