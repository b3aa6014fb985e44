"""DRIFT: routing by pass rate, the buffer of successes, the bonus, and a memory that is saved."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax import distillation
from pgpo_jax.training import (
    DRIFT,
    PRESETS,
    DriftConfig,
    LoRAConfig,
    TrainConfig,
    make_trainer,
    read_jsonl,
    train,
    with_published,
)
from pgpo_jax.training.objectives._pass_rates import count_answers, difficulty, pass_rates
from pgpo_jax.training.objectives._success_buffer import keep_successes, kept_success
from tests.training.conftest import random_experience, replaced
from tests.training.test_family import (
    ROLLOUT,
    STUDENT,
    TEACHER,
    Sums,
    answered,
    assert_same,
    make,
    of_objective,
    one_step,
)


def counted(right, wrong, **changes):
    settings = DriftConfig(**changes)
    counts = {}
    count_answers(counts, ["q"], np.array([[True] * right + [False] * wrong]), 0, settings)
    return pass_rates(counts, ["q"], settings)


def test_the_numbers_of_the_routing():
    rates = counted(1, 7)
    np.testing.assert_allclose(rates, [0.35], atol=1e-12)
    shares = difficulty(rates, DriftConfig())
    np.testing.assert_allclose(np.ravel(shares), (0.347140547, 0.640481452, 0.012378002), atol=1e-9)
    # Negative control: without the prior it would be another rate.
    assert abs(counted(1, 7, prior=1e-9)[0] - 0.2) < 1e-6


def test_counts_fade_by_the_step_and_the_oldest_are_forgotten():
    settings, counts = DriftConfig(questions=2), {}
    right = np.array([[True, False]])
    count_answers(counts, ["a"], right, 0, settings)
    count_answers(counts, ["a"], right, 3, settings)
    np.testing.assert_allclose(counts["a"], [1 + 0.85**3, 1 + 0.85**3, 3])
    count_answers(counts, ["b"], right, 4, settings)
    count_answers(counts, ["c"], right, 5, settings)
    assert set(counts) == {"b", "c"}
    # Equally old ones go by name, not by the order in which they came.
    count_answers(counts, ["e", "d"], np.repeat(right, 2, 0), 5, settings)
    assert set(counts) == {"d", "e"}


def test_the_buffer_keeps_the_best_and_no_text_twice():
    settings, buffer = DriftConfig(kept=2), {}
    keep_successes(buffer, "q", [(0.9, "A"), (1.0, "B"), (0.9, "A")], 1, settings)
    assert sorted(entry[2] for entry in buffer["q"]) == ["A", "B"]
    keep_successes(buffer, "q", [(0.95, "C")], 2, settings)
    assert sorted(entry[2] for entry in buffer["q"]) == ["B", "C"]
    keep_successes(buffer, "q", [(0.5, "D")], 3, settings)
    assert sorted(entry[2] for entry in buffer["q"]) == ["B", "C"]
    assert kept_success(buffer, "q", "A", newest_first=False) == "B"
    assert kept_success(buffer, "q", "A", newest_first=True) == "C"
    assert kept_success(buffer, "q", "B", newest_first=False) == "C"
    assert kept_success(buffer, "other", "A", newest_first=False) is None
    keep_successes(buffer, "other", [], 4, settings)
    assert "other" not in buffer
    for name in ("r", "s"):
        keep_successes(buffer, name, [(1.0, "A")], 5, dataclasses.replace(settings, questions=2))
    assert set(buffer) == {"r", "s"}


# Four components at the first token, one at the second.
BONUS = (-0.305719864, 0.101345817, 0.037283043, 0.167091005, 0.117719624)


@pytest.mark.parametrize(
    ("columns", "value", "gradient"),
    [
        # A share of .8 x .5, as in the pseudo-code with its rhythm at one half.
        ({"advantage": 1.0, "reinforce": 1.0, "rebellious": 0.4}, -1.081206358, BONUS),
        (
            {"distil": 1.0},
            0.039020528,
            (0.020766095, -0.028313412, -0.005047957, 0.012595273, 0.009447194),
        ),
    ],
)
def test_the_loss_is_that_of_the_formula(x64, columns, value, gradient):
    """Through the objective and the fused head."""
    config = with_published(TrainConfig(), "drift")
    config = replaced(config, loss={"support": "full", "rollout_clip": None})

    def loss(objective, **changes):
        held = dict.fromkeys(objective.columns, 0.0) | columns | changes
        arrays = {name: np.array([x]) for name, x in held.items()}
        return of_objective(objective, columns=arrays)

    found = loss(config.make_objective())
    np.testing.assert_allclose(found[0], value, atol=1e-9, rtol=0)
    np.testing.assert_allclose(found[1], gradient, atol=1e-9, rtol=0)
    # The control: another margin moves the bonus, and half the weight the divergence.
    if "rebellious" in columns:
        found = loss(replaced(config, drift={"bonus_margin": 0.1}).make_objective())
    else:
        found = loss(config.make_objective(), distil=0.5)
    assert abs(found[0] - value) > 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-9), (jnp.float32, 1e-6)])
def test_the_bonus_with_all_logits_at_once(x64, dtype, tolerance):
    """The plain path: the loss on the logits, and its mean."""
    student, teacher = (jnp.asarray([x], dtype) for x in (STUDENT, TEACHER))
    row = jnp.ones((1, 2), dtype)
    chunk = {"tokens": jnp.array([[0, 2]]), "advantages": row, "reinforce": row}
    chunk |= {"distil": 0 * row, "rebellious": 0.4 * row}

    def distance(student, teacher, chunk):
        return distillation.divergence(student, teacher, support="full")

    token_loss = distillation.routed_loss(distance, beta=0.0, bonus=distillation.rebellious_weights)
    value, slopes = jax.value_and_grad(lambda z: token_loss(z, teacher, chunk).mean())(student)
    np.testing.assert_allclose(value, -1.081206358, atol=tolerance, rtol=0)
    found = [*slopes[0, 0], slopes[0, 1, 0]]
    np.testing.assert_allclose(found, BONUS, atol=tolerance, rtol=0)


def test_the_bonus_by_itself(x64):
    ratio = jnp.array([-0.5407714029, 0.1961555655])
    weights = distillation.rebellious_weights(ratio, 0.4)
    np.testing.assert_allclose(weights.mean(), 1.081206358, atol=1e-9)
    np.testing.assert_allclose(distillation.rebellious_weights(ratio, 1.0, most=1.0), 1.0)
    for settings, rule in (({"margin": -1}, "a number >= 0"), ({"most": 0.5}, "a number >= 1")):
        with pytest.raises(ValueError, match=rule):
            distillation.rebellious_weights(ratio, **settings)


def four(objective):
    return make(objective, rollout=dataclasses.replace(ROLLOUT, samples=4, questions=1))


def said(trainer, texts, step=0):
    """The same question in each step."""
    return answered(trainer, texts)._replace(step=step)


def test_responses_go_where_their_pass_rate_says():
    trainer = four(DRIFT())
    answer = trainer.stream.batch(0).questions[0].answer
    rollout = said(trainer, [answer, "no", answer, "no"])
    lesson = trainer.objective.prepare(rollout)
    assert lesson.kept.all()
    rate = 1 / 3 * (2 + 1) / (4 + 2) + 2 / 3 * 0.5
    hard, medium, easy = (float(x[0]) for x in difficulty(np.array([rate]), DriftConfig()))
    columns = lesson.columns
    distil, reinforce = 0.35 * easy + hard, 0.05 * easy + medium + 0.3 * hard
    np.testing.assert_allclose(columns["distil"], [0, distil, 0, distil], rtol=1e-6)
    np.testing.assert_allclose(columns["reinforce"], [reinforce, 0, reinforce, 0], rtol=1e-6)
    np.testing.assert_allclose(columns["rebellious"], [medium, 0, medium, 0], rtol=1e-6)
    assert lesson.measured.tolist() == [False, True, False, True]
    # The teacher of a right one is read as well, for the bonus.
    assert sorted(lesson.teacher_texts) == [0, 1, 2, 3]
    metrics = trainer.objective.row_metrics(trainer.packed(rollout, lesson)[1], 4)
    np.testing.assert_allclose(metrics["router/pass_rate"], rate)
    assert metrics["router/learning_fraction"] == 1


def test_a_success_is_shown_when_nobody_finds_one():
    trainer = four(DRIFT())
    answer = trainer.stream.batch(0).questions[0].answer
    # Nothing was kept yet: the responses stay with their reward, and that is counted.
    rollout = said(trainer, ["no"] * 4)
    lesson = trainer.objective.prepare(rollout)
    assert lesson.columns["reinforce"].tolist() == [1.0] * 4
    metrics = trainer.objective.row_metrics(trainer.packed(rollout, lesson)[1], 4)
    assert (metrics["buffer/empty"], metrics["buffer/shown"]) == (4, 0)
    assert metrics[trainer.objective.learning_fraction] == 0
    trainer.objective.prepare(said(trainer, [f"It is {answer}", "no", "no", "no"], step=1))
    assert [len(held) for held in trainer.memory["buffer"].values()] == [1]
    rollout = said(trainer, ["no", "", "no", "no"], step=2)
    lesson = trainer.objective.prepare(rollout)
    assert sorted(lesson.teacher_texts) == [0, 2, 3]
    assert all(f"\nCorrect solution:\n\nIt is {answer}" in x for x in lesson.teacher_texts.values())
    assert (lesson.columns["distil"] > 0).tolist() == [True, False, True, True]
    metrics = trainer.objective.row_metrics(trainer.packed(rollout, lesson)[1], 4)
    assert (metrics["buffer/shown"], metrics["buffer/empty"], metrics["buffer/questions"]) == (
        3,
        0,
        1,
    )
    # A step before the buffer is switched on shows nothing.
    later = dataclasses.replace(trainer.objective, drift=DriftConfig(buffer_from=9))
    assert later.prepare(said(trainer, ["no"] * 4, step=3)).teacher_texts == {}


def test_the_warm_up_distils_and_the_counts_begin_anew():
    trainer = four(DRIFT(drift=DriftConfig(warmup_steps=2)))
    answer = trainer.stream.batch(0).questions[0].answer
    texts = [answer, "no", answer, "no"]
    for step in (0, 1):
        lesson = trainer.objective.prepare(said(trainer, texts, step))
        assert lesson.columns["distil"].tolist() == [1] * 4
        assert lesson.columns["reinforce"].tolist() == [0] * 4
    lesson = trainer.objective.prepare(said(trainer, texts, 2))
    assert [entry[:2] for entry in trainer.memory["counts"].values()] == [[2, 2]]
    assert lesson.columns["reinforce"][0] > 0


def columns_of(objective, rows):
    rng = np.random.default_rng(3)
    return {name: rng.uniform(size=rows).astype(np.float32) for name in objective.columns}


@pytest.mark.parametrize("rank", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_micro_batches_are_the_batch(small_model, small_config, rank):
    config = replaced(
        with_published(small_config, "drift"), lora=LoRAConfig(rank=rank, base_dtype="float32")
    )
    batch = random_experience(rows=6, kept=5)
    batch = batch._replace(columns=columns_of(config.make_objective(), 6))
    whole = one_step(small_model, config, batch)
    assert_same(whole, one_step(small_model, config, batch, micro_batch=2))
    assert float(whole[1]["optimizer/grad_norm"]) > 1e-3


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"drift": {"decay": 0.0}}, r"decay must be in \(0, 1\], got 0.0"),
        ({"drift": {"hard_below": 0.8}}, "at most easy_above.*is 0.7, got 0.8"),
        ({"drift": {"kept": 0}}, "kept must be positive, got 0"),
        ({"drift": {"bonus_max": 0.9}}, "bonus_max must be at least 1 and finite, got 0.9"),
        ({"drift": {"bonus_margin": -0.1}}, "bonus_margin must be at least 0, got -0.1"),
        ({"drift": {"warmup_steps": -1}}, "warmup_steps must be at least 0, got -1"),
        ({"rollout": {"samples": 1}}, "the router leaves nothing to learn"),
        ({"loss": {"modulation": "token"}}, "modulation must be 'none' with objective 'drift'"),
    ],
)
def test_contradictions_are_refused_by_name(changes, rule):
    with pytest.raises(ValueError, match=rule):
        replaced(TrainConfig(objective="drift"), **changes)


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with pytest.raises(ValueError, match=r"must have 1 process with objective DRIFT.*got 2"):
        make(DRIFT())


TASK = '''
from pgpo_jax.tasks import Grade, Question

class Letters:
    """Right is what ends in an even digit or letter: seldom a whole group, seldom none."""

    def questions(self, split, seed):
        if split != "train":
            return []
        return [Question(f"q{i}", "sums", "", f"{i} + 1?", str(i + 1)) for i in range(2)]

    def grade(self, question, response):
        right = sum(map(ord, response)) % 3 == 0
        return Grade(float(right), response, "")
'''


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(tmp_path):
    (tmp_path / "letters.py").write_text(TASK)
    config = replaced(
        with_published(PRESETS["tiny"], "drift"),
        task=f"{tmp_path}/letters.py:Letters",
        rollout={"questions": 2, "samples": 2, "row_buckets": 1, "max_response": 6},
        checkpoint_every=1,
        trackers=(),
    )
    train(replaced(config, steps=5), tmp_path / "whole")
    train(replaced(config, steps=3), tmp_path / "parts")
    train(replaced(config, steps=5), tmp_path / "parts", resume=True)

    def steps(name):
        rows = read_jsonl(tmp_path / name / "metrics.jsonl")
        return [row for row in rows if "loss" in row]

    assert steps("whole") == steps("parts")
    assert len(steps("whole")) == 5
    assert sum(row["buffer/shown"] for row in steps("whole")[3:]) > 0
    # Another memory than was saved is refused; the control: that of the checkpoint is not.
    train(replaced(config, steps=5), tmp_path / "parts", resume=True)
    file = tmp_path / "parts/checkpoints/5/_CHECKPOINT_METADATA"
    held = json.loads(file.read_text())
    held["custom_metadata"]["memory"] = "0" * 16
    file.write_text(json.dumps(held))
    with pytest.raises(ValueError, match=r"checkpoint 5 .* another memory of the objective"):
        train(replaced(config, steps=6), tmp_path / "parts", resume=True)
    del held["custom_metadata"]["memory"]
    file.write_text(json.dumps(held))
    with pytest.raises(ValueError, match="lacks the memory of the objective"):
        train(replaced(config, steps=6), tmp_path / "parts", resume=True)


def test_a_question_is_known_by_its_name():
    """The memory holds plain values, as they come back from a checkpoint."""
    trainer = make(DRIFT(), Sums())
    answer = trainer.stream.batch(0).questions[0].answer
    trainer.objective.prepare(said(trainer, [answer, "no", "no", "no"]))
    assert json.loads(json.dumps(trainer.memory)) == trainer.memory
    assert all(isinstance(name, str) for name in trainer.memory["counts"])
    assert make_trainer(PRESETS["tiny"]).memory is None
