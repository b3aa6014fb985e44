"""PGPO beside InFlow: the arms, the lot, the verdict."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import selection
from experiments.sweeps.selection import PAIRS, PRESETS, arms, by_lot
from pgpo_jax.reports import read_run
from pgpo_jax.training import ObjectiveSections, TrainConfig
from tests.experiments.conftest import write_run
from tests.training.test_family import ROLLOUT, answered, make


def test_arms_are_what_their_names_say(tmp_path):
    config = PRESETS["cpu"]
    write_run(config.training, tmp_path / "run", [0.5], rho=1.5)
    built = {
        arm.name: arm.config(4000, lambda name, seed: read_run(tmp_path / "run"))
        for arm in arms(config)
    }
    assert {name for pair in PAIRS for name in pair} == set(built)
    assert {made.teacher.kind for made in built.values()} == {"frozen"}
    assert {name for name, made in built.items() if made.alpha} == {"pgpo", "constant"}
    assert [built[x].loss.weight for x in ("alone", "inflow", "random")] == [
        "none", "belief_shift", "none",
    ]  # fmt: skip
    alone, lot = (built[name].make_objective() for name in ("alone", "random"))
    assert alone != lot
    # Which questions are drawn is no part of the program, but for the share that it does not read.
    assert lot.program() == dataclasses.replace(
        alone, loss=dataclasses.replace(alone.loss, weight_share=0.2)
    )


def test_the_lot_is_that_of_seed_and_step():
    config = TrainConfig()
    objective = by_lot(ObjectiveSections(config.teacher, config.loss, config.information))
    trainer = make(objective, rollout=dataclasses.replace(ROLLOUT, questions=4))
    rollout = answered(trainer, ["1", "no"] * 4)

    def drawn(step, seed=0):
        lesson = objective.prepare(rollout._replace(step=step, seed=seed))
        assert lesson.kept.all()
        trained = lesson.trained.reshape(4, 2)
        assert (trained[:, 0] == trained[:, 1]).all()
        return np.flatnonzero(trained[:, 0]).tolist()

    # A fifth of four questions, rounded up.
    found = [drawn(step) for step in range(20)]
    assert {len(x) for x in found} == {1}
    assert {x[0] for x in found} == {0, 1, 2, 3}
    assert found == [drawn(step) for step in range(20)]
    assert found != [drawn(step, seed=1) for step in range(20)]


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ({"inflow": 0.2, "pgpo": 0.1}, "helps"),
        ({"inflow": 0.2, "random": 0.2}, "refuted"),
        ({}, "refuted"),
    ],
)
def test_a_smaller_batch_is_not_taken_for_a_selection(tmp_path, pretend, gains, verdict):
    def accuracies(config):
        name = "random" if "by_lot" in config.objective else "alone"
        name = "inflow" if config.loss.weight == "belief_shift" else name
        name = "pgpo" if config.alpha and not config.control.replay else name
        return [0.5] + [0.6 + gains.get(name, 0.0)] * 2

    pretend(accuracies)
    flags = ["--preset", "smoke", "--seeds", "6", "--output", str(tmp_path)]
    assert selection.main(flags) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert f"helps: {verdict}." in results["verdict"]
    verdicts = {c["name"]: c["verdict"] for c in results["comparisons"]}
    assert len(verdicts) == 5
    assert (verdicts["pgpo − constant"] == "better") is ("pgpo" in gains)


def test_a_share_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, got 0"):
        dataclasses.replace(PRESETS["cpu"], share=0.0)
