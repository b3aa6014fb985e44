"""Whole runs of the shipped model whose multiplier is given other information."""

import json

import numpy as np
import pytest
import tyro

from experiments.sweeps import ControlledConfig, FollowSteps, changed
from pgpo_jax.cli import main
from pgpo_jax.tasks import Grade
from pgpo_jax.training import PRESETS, Trainer, from_json, read_jsonl, train

SMALL = changed(
    ControlledConfig.of(PRESETS["tiny"]),
    steps=4,
    checkpoint_every=2,
    trackers=(),
    rollout={"questions": 2, "samples": 4, "row_buckets": 1},
    evaluation={"every": 2, "questions": 4, "samples": 2, "batch": 4},
)
# Whole runs; the fast tier has the controls and the objective alone.
pytestmark = pytest.mark.slow

FILES = ("metrics.jsonl", "evaluations.jsonl")
REPLAY = (0.3, -0.2, 0.05, 0.4)


def contents(folder):
    return [(folder / name).read_text() for name in FILES]


def steps_of(folder):
    return [row for row in read_jsonl(folder / "metrics.jsonl") if "loss" in row]


def column(folder, metric):
    return [row[metric] for row in steps_of(folder)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    train(SMALL, folder)
    return folder


@pytest.mark.slow
@pytest.mark.optimized
def test_nothing_replaced_is_the_run_of_the_trainer(unbroken, tmp_path):
    plain = {k: v for k, v in SMALL.to_json().items() if k != "control"}
    train(from_json(PRESETS["tiny"], plain), tmp_path / "run")
    ours, theirs = steps_of(unbroken), steps_of(tmp_path / "run")
    # The controls count what misleads, of which there is nothing here.
    assert [{k: v for k, v in row.items() if "misleading" not in k} for row in ours] == theirs
    assert {v for row in ours for k, v in row.items() if "misleading" in k} == {0.0}


def test_a_run_that_is_given_its_own_signals_is_the_same_run(unbroken, tmp_path):
    """The replay survives `config.json`, the command line and a resumption, bit for bit."""
    signals = tuple(column(unbroken, "pgpo/signal"))
    assert len(set(signals)) == 4
    folder = tmp_path / "run"
    train(changed(SMALL, steps=2, control={"replay": signals}), folder)
    config = from_json(ControlledConfig(), json.loads((folder / "config.json").read_text()))
    config = tyro.cli(ControlledConfig, args=["--steps", "4"], default=config)
    assert config.control.replay == signals
    train(config, folder, resume=True)
    assert contents(folder) == contents(unbroken)
    timings = read_jsonl(folder / "timings.jsonl")
    assert [row["compilations/step"] for row in timings if "time/step" in row] == [1, 1, 1, 1]


def test_a_report_of_a_run_that_was_given_other_signals(unbroken, tmp_path, capsys):
    folder = tmp_path / "run"
    train(changed(SMALL, steps=1, control={"flip": True}), folder)
    (measured,), (signal,) = (column(folder, f"pgpo/{x}") for x in ("information", "signal"))
    assert signal == -measured == -column(unbroken, "pgpo/information")[0] < 0
    page = tmp_path / "report.html"
    assert main(["report", str(unbroken), str(folder), "--output", str(page)]) == 0
    assert "control.flip" in page.read_text()


def test_controls_share_a_step_in_one_process():
    def step(**control):
        config = changed(SMALL, control=control)
        return Trainer(*config.build(), **config.trainer_settings())._step.program

    plain = step()
    assert step(replay=REPLAY) is plain
    assert step(misleading=0.5, rows="failures") is plain
    assert step(half="other") is not plain


class Spoiled:
    """A task in which all answers to some questions are wrong."""

    def __init__(self, task, wrong):
        self.task, self.wrong = task, wrong

    def questions(self, split, seed):
        return self.task.questions(split, seed)

    def grade(self, question, response):
        if question.id in self.wrong:
            return Grade(0.0, response)
        return self.task.grade(question, response)


@pytest.mark.slow
@pytest.mark.parametrize("follows", [True, False])
def test_a_step_that_is_not_applied_does_not_shift_the_replay(tmp_path, follows):
    """Nobody answers the second step right: nothing trains, and the optimizer stands still."""
    config = changed(
        SMALL,
        evaluation={"every": 9, "questions": 1, "samples": 1, "batch": 1},
        keep_checkpoints=0,
        control={"replay": REPLAY},
    )
    policy, task, objective, optimizer = config.build()
    settings = config.trainer_settings()
    assert [type(callback) for callback in settings["callbacks"]] == [FollowSteps]
    spoiled = Spoiled(task, set())
    trainer = Trainer(
        policy,
        spoiled,
        objective,
        optimizer,
        **{**settings, "callbacks": settings["callbacks"] if follows else ()},
    )
    spoiled.wrong |= {question.id for question in trainer.stream.batch(1).questions}
    trainer.fit(tmp_path / "run", **config.fit_settings())
    assert column(tmp_path / "run", "optimizer/applied") == [1, 0, 1, 1]
    wanted = [0, 1, 2, 3] if follows else [0, 1, 1, 2]
    given = column(tmp_path / "run", "pgpo/signal")
    np.testing.assert_array_equal(given, np.float32([REPLAY[i] for i in wanted]))
    timings = read_jsonl(tmp_path / "run" / "timings.jsonl")
    compiled = {row["compilations/step"] for row in timings if "time/step" in row}
    assert len(compiled) == 1
