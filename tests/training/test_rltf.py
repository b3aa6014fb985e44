"""RLTF: the second turn, its rows, their losses, and whole runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax import distillation
from pgpo_jax._categorical import token_log_probs
from pgpo_jax.tasks import Grade
from pgpo_jax.tasks.graders import FailedGrade
from pgpo_jax.training import (
    PRESETS,
    RLTF,
    LoRAConfig,
    LossConfig,
    Models,
    RltfConfig,
    TrainConfig,
    read_jsonl,
    train,
    with_published,
)
from pgpo_jax.training.rollout._batch import rollout_metrics
from tests.training.conftest import random_experience, replaced
from tests.training.test_family import (
    ROLLOUT,
    STUDENT,
    Fixed,
    Sums,
    answered,
    assert_same,
    make,
    one_step,
)

SD, FM = "sd", "fm"
# The row's tokens, its columns, the floor, the loss and its gradient.
ROWS = {
    # First answers scored 1, 0, 0, 0 and a second one 1: the advantage is .75 times .1.
    SD: (
        [2, 2],
        {"advantage": 0.075, "floored": 1.0},
        -1.2,
        -0.075,
        (0.0, 0.0, 0.0, 0.0, 0.017657944),
    ),
    FM: (
        [0, 2],
        {"supervised": 0.1},
        None,
        0.159286964,
        (-0.052600915, 0.017437149, 0.006414769, 0.028748998, 0.023543925),
    ),
}


@pytest.mark.parametrize("variant", ROWS)
def test_the_loss_is_that_of_the_formula(x64, variant):
    """Through the objective and the fused head, behind the prompt of the row."""
    tokens, columns, floor, value, gradient = ROWS[variant]
    settings = RltfConfig(variant=variant, min_logprob=floor)
    objective = RLTF(LossConfig(reduction="sequence_sum", rollout_clip=None), settings)
    graphdef, student = nnx.split(Fixed([STUDENT]), nnx.Param)
    held = dict.fromkeys(objective.columns, 0.0) | columns
    batch = random_experience(rows=1, kept=1, response=2)._replace(
        response=np.array([tokens], np.int32),
        response_mask=np.ones((1, 2), bool),
        columns={name: np.array([x]) for name, x in held.items()},
    )
    batch = jax.tree.map(jnp.asarray, batch)

    def loss(student, objective=objective):
        models = Models(graphdef, student, None, 1.0)
        return objective.loss_of_rows(models, batch, objective.denominators(batch, 1)).loss

    found, slopes = jax.value_and_grad(loss)(student)
    slopes = slopes["logits"][...][0]
    np.testing.assert_allclose(found, value, atol=1e-9, rtol=0)
    np.testing.assert_allclose([*slopes[0], slopes[1, 0]], gradient, atol=1e-9, rtol=0)
    if variant == SD:
        # The control: without the floor the first token counts, too.
        every = dataclasses.replace(objective, rltf=RltfConfig(min_logprob=None))
        np.testing.assert_allclose(loss(student, every), -0.15, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-9), (jnp.float32, 1e-6)])
@pytest.mark.parametrize("variant", ROWS)
def test_the_loss_with_all_logits_at_once(x64, variant, dtype, tolerance):
    tokens, columns, floor, value, gradient = ROWS[variant]
    one = jnp.ones(2, dtype)

    def loss(logits):
        return distillation.turns_token_loss(
            token_log_probs(logits, jnp.array(tokens)),
            columns.get("advantage", 0.0) * one,
            columns.get("supervised", 0.0) * one,
            columns.get("floored", 0.0) * one,
            min_logprob=floor,
        ).sum()

    found, slopes = jax.value_and_grad(loss)(jnp.asarray(STUDENT, dtype))
    np.testing.assert_allclose(found, value, atol=tolerance, rtol=0)
    np.testing.assert_allclose([*slopes[0], slopes[1, 0]], gradient, atol=tolerance, rtol=0)


class Told(Sums):
    """Wrong answers are told so, but for one that is met with silence."""

    def grade(self, question, response):
        right = question.answer in response
        silent = right or response == "silence"
        return Grade(float(right), response, "" if silent else f"{response}?")


class Praised(Told):
    """Right answers are told something, too."""

    def grade(self, question, response):
        grade = super().grade(question, response)
        return Grade(grade.score, response, "fine" if grade.score else grade.feedback)


class Broken(Told):
    """Its grader fails at some answers, and says why."""

    def grade(self, question, response):
        if response == "odd":
            return FailedGrade(0.0, response, "The answer could not be checked.")
        return super().grade(question, response)


def extended(objective, texts, second, task=None):
    """The rows of a step whose first answers are `texts`; the second ones are as told."""
    rollout = dataclasses.replace(ROLLOUT, samples=4, questions=1, max_response=6)
    trainer = make(objective, task or Told(), rollout=rollout)
    answer = trainer.stream.batch(0).questions[0].answer
    first = answered(trainer, [text.replace("RIGHT", answer) for text in texts])
    asked = []

    def reply(prompts, longest):
        asked.extend(prompts)
        said = [text.replace("RIGHT", answer) for text in second]
        return answered(trainer, said).responses

    return trainer, objective.extended(first._replace(answer=reply)), asked


TEXTS = ["RIGHT", "no", "silence", "nay"]


def test_wrong_answers_with_feedback_get_a_second_turn():
    objective = RLTF()
    trainer, rollout, asked = extended(objective, TEXTS, ["RIGHT"] * 3 + ["still no"])
    decode = trainer.policy.tokenizer.decode
    assert [("Critique" in decode(prompt)) for prompt in asked] == [False, True, False, True]
    assert "Critique:\nno?" in decode(asked[1])
    assert (rollout.samples, rollout.kinds, rollout.total) == (12, 3, 12)
    assert rollout.scores.tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0]
    lesson = objective.prepare(rollout)
    assert lesson.kept.tolist() == [True] * 4 + [False, True, False, True] * 2
    columns = {name: x.reshape(3, 4) for name, x in lesson.columns.items()}
    # Returns 1, .1, 0, 0 of the first turn; scores 1, 0 of the second; .1 of 1 - .25, 0 - .25.
    want = [[0.725, -0.175, -0.275, -0.275], [0, 0.5, 0, -0.5], [0, 0.075, 0, -0.025]]
    np.testing.assert_allclose(columns["advantage"], want, atol=1e-6)
    assert columns["sampled"].tolist() == [[1] * 4, [1] * 4, [0] * 4]
    assert columns["floored"].tolist() == [[0] * 4, [0] * 4, [1] * 4]
    assert not columns["supervised"].any()
    # The second answer is read behind the second prompt, and behind the first one.
    assert lesson.teacher_prompts[5] == asked[1]
    assert lesson.teacher_prompts[9] == rollout.prompts[0]
    experience, rows = trainer.packed(rollout, lesson)
    assert experience.sequence_mask.sum() == 8
    metrics = objective.row_metrics(rows, rollout.samples)
    assert (metrics["rltf/second_turns"], metrics["rltf/second_accuracy"]) == (0.5, 0.5)
    assert (metrics["rltf/without_feedback"], metrics["rltf/dropped_second_prompts"]) == (1, 0)
    # What is known of every rollout is that of the first answers.
    known = rollout_metrics(rows)
    assert known["rollout/accuracy"] == 0.25
    assert known["rollout/distinct_responses"] == 4


def test_right_answers_may_have_a_second_turn_and_long_ones_have_none():
    texts, second = ["RIGHT", "no"] * 2, ["no"] * 4
    for early, turns in ((False, 4), (True, 2)):
        objective = RLTF(rltf=RltfConfig(early_termination=early))
        _, rollout, asked = extended(objective, texts, second, Praised())
        assert sum(prompt != rollout.prompts[0] for prompt in asked) == turns
    short = RLTF(rltf=RltfConfig(max_prompt=60))
    trainer, rollout, asked = extended(short, TEXTS, ["no"] * 4)
    # Nobody has a second turn, so nobody is asked.
    assert not asked
    rows = trainer.packed(rollout, short.prepare(rollout))[1]
    assert short.row_metrics(rows, 12)["rltf/dropped_second_prompts"] == 2
    assert short.row_metrics(rows, 12)["rltf/second_turns"] == 0


def test_a_grader_that_failed_is_no_critic():
    _, rollout, asked = extended(RLTF(), ["no", "odd"] * 2, ["no"] * 4, Broken())
    assert [prompt != rollout.prompts[0] for prompt in asked] == [True, False] * 2


@pytest.mark.parametrize(("said", "failures"), [("odd", 2), ("no", 0)])
def test_failures_in_second_turns_are_counted(said, failures):
    objective = RLTF()
    trainer, rollout, _ = extended(objective, ["no"] * 4, ["no", said] * 2, Broken())
    rows = trainer.packed(rollout, objective.prepare(rollout))[1]
    assert objective.row_metrics(rows, rollout.samples)["rltf/grader_failures"] == failures
    # Those of the first turn are another metric.
    assert rollout_metrics(rows)["rollout/grader_failures"] == 0


def test_the_feedback_is_learnt_behind_the_first_answer():
    objective = RLTF(rltf=RltfConfig(variant="fm"))
    trainer, rollout, _ = extended(objective, TEXTS, ["RIGHT"] * 4)
    assert [rollout.responses.texts[row] for row in (9, 11)] == ["no?", "nay?"]
    lesson = objective.prepare(rollout)
    supervised = lesson.columns["supervised"].reshape(3, 4)
    np.testing.assert_allclose(supervised, [[0] * 4, [0] * 4, [0, 0.1, 0, 0.1]], atol=1e-7)
    assert not lesson.columns["advantage"].reshape(3, 4)[2].any()
    text = trainer.policy.tokenizer.decode(lesson.teacher_prompts[9])
    assert "Write a short critique" in text
    assert "no?" not in text
    # Words that are longer than a response may be are left out and counted.
    trainer, rollout, _ = extended(objective, ["no no no no no", "no"] * 2, ["RIGHT"] * 4)
    lesson = objective.prepare(rollout)
    assert lesson.columns["supervised"].reshape(3, 4)[2].tolist() == pytest.approx([0, 0.1] * 2)
    rows = trainer.packed(rollout, lesson)[1]
    assert objective.row_metrics(rows, 12)["rltf/dropped_feedback"] == 2


@pytest.mark.parametrize("rank", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_micro_batches_are_the_batch(small_model, small_config, rank):
    config = replaced(
        with_published(small_config, "rltf"),
        loss={"rollout_clip": 2.0},
        lora=LoRAConfig(rank=rank, base_dtype="float32"),
    )
    batch, rng = random_experience(rows=6, kept=5), np.random.default_rng(3)
    columns = {
        "advantage": rng.normal(size=6),
        "supervised": np.array([0, 0, 0, 0, 0.1, 0.1]),
        "sampled": np.array([1, 1, 1, 0, 0, 0]),
        "floored": np.array([0, 0, 0, 1, 0, 0]),
    }
    batch = batch._replace(columns={k: x.astype(np.float32) for k, x in columns.items()})
    whole = one_step(small_model, config, batch)
    assert_same(whole, one_step(small_model, config, batch, micro_batch=2))
    assert float(whole[1]["optimizer/grad_norm"]) > 1e-3


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"rltf": {"discount": 1.5}}, r"discount must be in \[0, 1\], got 1.5"),
        ({"rltf": {"coefficient": -0.1}}, "coefficient must be at least 0 and finite, got -0.1"),
        ({"rltf": {"min_logprob": 0.5}}, "min_logprob must be below 0 or None, got 0.5"),
        ({"rltf": {"variant": "fm", "min_logprob": -1.0}}, "with variant 'fm'.*got -1.0"),
        ({"rltf": {"max_prompt": 100}}, "rltf.max_prompt must be at least rollout.max_prompt"),
        ({"rollout": {"samples": 1}}, "samples must be at least 2 with objective 'rltf'"),
        ({"teacher": {"feedback": True}}, "teacher.feedback must be False with objective 'rltf'"),
    ],
)
def test_contradictions_are_refused_by_name(changes, rule):
    with pytest.raises(ValueError, match=rule):
        replaced(TrainConfig(objective="rltf"), **changes)


def test_outside_a_run_nobody_answers():
    trainer = make(RLTF(), Told())
    rollout = answered(trainer, ["no"] * 4)._replace(answer=None)
    with pytest.raises(RuntimeError, match="asks the student again"):
        trainer.objective.extended(rollout)


TASK = """
from pgpo_jax.tasks import Grade, Question

class Letters:
    def questions(self, split, seed):
        if split != "train":
            return []
        return [Question(f"q{i}", "sums", "", f"{i} + 1?", str(i + 1)) for i in range(4)]

    def grade(self, question, response):
        right = sum(map(ord, response)) % 3 == 0
        return Grade(float(right), response, "" if right else "Think of the sum again.")
"""


@pytest.mark.slow
@pytest.mark.parametrize("variant", ROWS)
def test_a_resumed_run_is_the_same_run(variant, tmp_path):
    (tmp_path / "letters.py").write_text(TASK)
    config = replaced(
        with_published(PRESETS["tiny"], "rltf"),
        task=f"{tmp_path}/letters.py:Letters",
        rltf={"variant": variant, "max_prompt": 512},
        rollout={"questions": 2, "samples": 2, "row_buckets": 1, "max_response": 12},
        checkpoint_every=1,
        trackers=(),
    )
    train(replaced(config, steps=3), tmp_path / "whole")
    train(replaced(config, steps=2), tmp_path / "parts")
    train(replaced(config, steps=3), tmp_path / "parts", resume=True)

    def steps(name):
        rows = read_jsonl(tmp_path / name / "metrics.jsonl")
        return [row for row in rows if "loss" in row]

    assert steps("whole") == steps("parts")
    assert len(steps("whole")) == 3
    assert sum(row["rltf/second_turns"] for row in steps("whole")) > 0
