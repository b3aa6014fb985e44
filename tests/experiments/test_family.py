"""The study of other objectives: its arms, its verdicts on made-up runs, and its sittings."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from experiments import family
from experiments.sweeps import changed, detectable_difference
from experiments.sweeps.family import (
    ARMS,
    MULTIPLIERS,
    OBJECTIVES,
    PAIRS,
    PRESETS,
    arms,
    measured,
    of_the_family,
    told,
)
from pgpo_jax import multiplier
from pgpo_jax.reports import RunRecord, read_run
from pgpo_jax.tasks import Question
from tests.experiments.conftest import write_run

CPU = PRESETS["cpu"]
SEEDS = range(3000, 3012)


def built(name, folder):
    """The configurations of an objective's arms, as if all that they wait for had gone alike."""
    signal = [0.1] * 12 + [-0.05] * 12
    base = changed(CPU.training, information={"alpha": 30.0, "rho_max": 1.0})
    write_run(base, folder, [0.5], signal=signal)
    record = read_run(folder)
    config = changed(CPU, objectives=(name,))
    return record, {
        arm.name.partition("-")[2]: arm.config(3000, lambda *_: record) for arm in arms(config)
    }


@pytest.mark.parametrize("name", OBJECTIVES)
def test_arms_are_what_their_names_say(name, tmp_path):
    record, made = built(name, tmp_path / "run")
    assert [*made] == [*ARMS]
    objective = {config.objective for config in made.values()}
    assert objective == {"sdpo" if name == "feedback" else name}
    assert {config.teacher.feedback for config in made.values()} == {name == "feedback"}
    assert made["alone"].alpha == 0
    assert (made["pgpo"].alpha, made["pgpo"].information.rho_max) == (5, 4)
    assert (made["brake"].alpha, made["brake"].information.rho_max) == (30, 1)
    mean = np.mean(record.series("pgpo/rho")[1])
    assert 0 < mean < 1
    for scaled, constant in MULTIPLIERS.items():
        config = made[constant]
        given = np.array(config.control.replay, np.float32)
        rho = multiplier(given, config.alpha, config.information.rho_max)
        np.testing.assert_allclose(rho, mean, rtol=1e-4)
        # The same program, so that no rounding tells them apart; that of `alone` is another.
        programs = [made[arm].make_optimizer().update for arm in (scaled, constant, "alone")]
        assert programs[0] == programs[1] != programs[2]
        assert made[scaled].make_objective().program() == config.make_objective().program()


def test_what_is_written_is_what_is_run():
    text = family.__doc__
    assert all(f"`{name}`" in text for name in (*ARMS, *OBJECTIVES))
    assert [CPU.first_seed, CPU.first_seed + CPU.seeds - 1] == [3000, 3011]
    assert "seeds, 3000 to 3011" in text
    assert f"{len(OBJECTIVES)} objectives x {len(ARMS)} arms x {CPU.seeds} seeds = 360" in text
    assert f"difference is {detectable_difference(1.0, 12, level=0.05 / len(PAIRS)):.2f}" in text
    assert (CPU.training.steps, CPU.training.evaluation.every, CPU.margin) == (24, 4, 0.02)
    by_chance = 1 - 0.95**6 - 6 * 0.05 * 0.95**5
    assert 0.03 < by_chance < 0.04
    # The smoke preset has none of these seeds.
    smoke = PRESETS["smoke"]
    assert smoke.first_seed + smoke.seeds < 3000


def test_the_grader_tells_what_was_wrong():
    question = Question("q", "sums", "", "1 + 1?", "2")
    assert told(question, "<answer>3</answer>").feedback == 'The answer "3" is wrong.'
    assert told(question, "<answer>2</answer>") == (1.0, "2", "")
    # The grader that the runs name is this one.
    config = arms(changed(CPU, objectives=("feedback",)))[0].config(3000, None)
    _, grader = config.make_task(), config.grader.name
    assert grader.endswith("_told.py:told")
    assert Path(grader.rpartition(":")[0]).is_file()


def made_up(accuracies, *, name="opsd", seeds=SEEDS):
    """Runs whose arms have these accuracies after the start."""
    rng = np.random.default_rng(1)
    runs = {arm: [] for arm in ARMS}
    for _ in seeds:
        for arm in ARMS:
            value = accuracies.get(arm, 0.6) + 0.01 * rng.standard_normal(8)
            scores = {
                step: {f"q{i}": float(x) for i, x in enumerate(value if step else 0 * value)}
                for step in (0, 12, 24)
            }
            runs[arm].append(RunRecord(arm, Path(), {}, [], [], scores, []))
    return measured(name, list(seeds), runs, margin=0.02)


HELPS = {"pgpo": 0.7}
ONLY_LONGER = {"pgpo": 0.7, "constant": 0.7}
WORSE = {"pgpo": 0.5}


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [(HELPS, "helps"), (ONLY_LONGER, "refuted"), (WORSE, "refuted"), ({}, "refuted")],
)
def test_verdicts_of_an_objective(accuracies, verdict):
    found = made_up(accuracies)
    assert found.helps("pgpo", 12) == verdict
    # The brake was not changed: it does what its constant does.
    assert found.helps("brake", 12) == "refuted"
    assert made_up(accuracies, seeds=SEEDS[:11]).helps("pgpo", 12) == "too few seeds"
    # Better than its constant and no better than alone.
    assert made_up({"pgpo": 0.7, "alone": 0.7}).helps("pgpo", 12) == "undecided"


@pytest.mark.parametrize(
    ("helped", "refuted", "verdict"),
    [(2, 4, "helps"), (1, 5, "refuted"), (1, 4, "refuted"), (1, 3, "undecided")],
)
def test_verdicts_of_the_family(helped, refuted, verdict):
    kinds = [HELPS] * helped + [ONLY_LONGER] * refuted
    kinds += [{"pgpo": 0.7, "alone": 0.7}] * (6 - len(kinds))
    found = {name: made_up(x, name=name) for name, x in zip(OBJECTIVES, kinds, strict=True)}
    assert of_the_family(found, "pgpo", 12) == verdict
    # One that is not whole: no verdict of the family.
    found.pop("sdpo")
    assert of_the_family(found, "pgpo", 12) == "too few seeds"


def test_sittings_train_a_part_and_the_report_tells_it(tmp_path, pretend, capsys):
    pretend(lambda config: [0.5, *[0.6 + 0.1 * (config.alpha == 5)] * 3])
    flags = ["--preset", "smoke", "--seeds", "12", "--output", str(tmp_path)]
    flags += ["--training.steps", "3", "--training.optimizer.warmup-steps", "1"]
    assert family.main([*flags, "--objectives", "opsd", "--arms", "alone", "brake_constant"]) == 2
    assert "needs at least 2 seeds with all arms of an objective" in capsys.readouterr().err
    # The brake was trained, for its constant waits for it.
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        f"opsd-{arm}" for arm in ("alone", "brake", "brake_constant")
    }
    assert family.main([*flags, "--objectives", "opsd", "rlsd"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    # A constant of the same mean did as well.
    assert results["helps"]["pgpo"] == {"opsd": "refuted", "rlsd": "refuted"}
    assert results["family"] == {"pgpo": "too few seeds", "brake": "too few seeds"}
    assert "Not finished: sdpo, feedback, sdft, srpo." in results["verdict"]
    assert family.main([*flags, "--report-only", "--brake-alpha", "9"]) == 2
    assert "brake_alpha was 30.0, now 9.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--arms", "breake"], "arms must be some of alone, .* got .'breake'."),
        (["--brake-alpha", "0"], "brake_alpha must be positive, got 0"),
        (["--objectives"], "objectives must name some of sdpo, .* got none"),
    ],
)
def test_bad_flags_name_rule_and_value(tmp_path, capsys, flags, rule):
    with pytest.raises(SystemExit):
        family.main([*flags, "--output", str(tmp_path / "sweep")])
    assert re.search(rule, " ".join(capsys.readouterr().err.split()))
    assert not list(tmp_path.iterdir())
