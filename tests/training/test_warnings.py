"""What a run is told before it starts, though it is allowed."""

import dataclasses
import logging

import pytest

from pgpo_jax.tasks import Grade, Question, exact
from pgpo_jax.training import PRESETS, TeacherConfig, TrainConfig, Trainer, load_policy


class Sums:
    """A task with as many held-out questions as is said."""

    def __init__(self, held_out):
        self._held_out = held_out

    def questions(self, split, seed):
        count = 8 if split == "train" else self._held_out
        return [Question(f"{split}-{n}", "sums", "", f"{n} + 1?", str(n + 1)) for n in range(count)]

    def grade(self, question, response):
        return exact(question, response)


@pytest.fixture
def told(caplog):
    def told(held_out=4, **lengths):
        config = PRESETS["tiny"]
        evaluation = dataclasses.replace(config.evaluation, questions=held_out, batch=8)
        rollout = dataclasses.replace(config.rollout, questions=8, **lengths)
        with caplog.at_level(logging.WARNING, logger="pgpo_jax"):
            caplog.clear()
            Trainer(
                load_policy("tiny"),
                Sums(held_out),
                config.make_objective(),
                config.make_optimizer(),
                rollout=rollout,
                evaluation=evaluation,
            )
            return [record.getMessage() for record in caplog.records]

    return told


def test_a_run_without_held_out_questions_is_told(told):
    (message,) = told(held_out=0)
    assert "no held-out questions, so the run is not evaluated" in message
    assert told(held_out=4) == []


def test_sequences_beyond_the_model_are_told(told):
    (message,) = told(max_prompt=4000, max_response=97)
    assert "= 4097 is more than max_position_embeddings = 4096" in message
    assert told(max_prompt=4000, max_response=96) == []


def test_one_response_may_learn_from_feedback_or_itself():
    rollout = dataclasses.replace(PRESETS["tiny"].rollout, samples=1)
    for teacher in (TeacherConfig(feedback=True), TeacherConfig(exclude_self=False)):
        assert TrainConfig(rollout=rollout, teacher=teacher).rollout.rows == 8


class Strict:
    """Grades every response as wrong, or as a quarter right, which is too little to learn from."""

    def __init__(self, quarter_right):
        self._quarter_right = quarter_right

    def questions(self, split, seed):
        return [Question(f"q{n}", "sums", "", f"{n} + 1?", str(n + 1)) for n in range(2)]

    def grade(self, question, response):
        return Grade(0.25 if self._quarter_right else 0.0)


@pytest.mark.parametrize("quarter_right", [False, True])
def test_a_task_in_which_nothing_is_ever_right_is_told(tmp_path, caplog, quarter_right):
    config = PRESETS["tiny"]
    trainer = Trainer(
        load_policy("tiny"),
        Strict(quarter_right),
        config.make_objective(),
        config.make_optimizer(),
        rollout=dataclasses.replace(
            config.rollout, questions=1, samples=2, max_response=2, row_buckets=1
        ),
        evaluation=dataclasses.replace(
            config.evaluation, questions=1, samples=1, batch=1, every=100
        ),
    )
    with caplog.at_level(logging.WARNING, logger="pgpo_jax"):
        trainer.fit(tmp_path / "run", steps=10, keep_checkpoints=0, trackers=())
    told = [m for m in caplog.messages if "has a score above 0" in m]
    assert len(told) == (0 if quarter_right else 1)
    if told:
        assert "the last 10 steps" in told[0]
        assert "begin with `pgpo sft`" in told[0]
