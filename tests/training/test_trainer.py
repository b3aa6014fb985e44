"""A trainer from parts of one's own: what it is given, what it refuses, what it shows."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest

import pgpo_jax as pgpo
from pgpo_jax.models import muon_dimension_numbers
from pgpo_jax.tasks import Grade, Question, make_grader
from pgpo_jax.training import (
    GRPO,
    OBJECTIVES,
    SDPO,
    EvaluationConfig,
    LoRAConfig,
    Models,
    Responses,
    RolloutConfig,
    SelectionConfig,
    TeacherConfig,
    Trainer,
    load_policy,
    with_published,
)
from pgpo_jax.training.rollout._batch import rollout_metrics
from pgpo_jax.training.rollout._texts import chosen_responses, rollout_texts, shown_rows
from tests.training.conftest import random_experience, replaced

ROLLOUT = RolloutConfig(questions=2, samples=2, max_prompt=40, max_response=6, row_buckets=1)


class Sums:
    """Two digits to add; the reward is what the test says."""

    def __init__(self, reward=None, count=4):
        self.reward, self.count = reward, count

    def questions(self, split, seed):
        number = self.count if split == "train" else 1
        return [Question(f"{split}{i}", "sums", "", f"{i} + 1?", str(i + 1)) for i in range(number)]

    def grade(self, question, response):
        if self.reward is not None:
            return self.reward(question, response)
        right = question.answer in response
        return Grade(float(right), response, "" if right else "Count once more.")


def make(task=None, objective=None, optimizer=None, **settings):
    return Trainer(
        load_policy("tiny"),
        task or Sums(),
        objective or SDPO(),
        optimizer or pgpo.pgpo(optax.sgd(1.0)),
        **{"rollout": ROLLOUT, **settings},
    )


def answered(trainer, texts):
    """The responses of a step, as if the model had said these texts: the words are tokens."""
    batch = trainer.stream.batch(0)
    ids = [trainer.policy.tokenizer.encode(text, add_special_tokens=False)[:6] for text in texts]
    tokens, mask = np.zeros((len(ids), 6), np.int32), np.zeros((len(ids), 6), bool)
    for row, known in enumerate(ids):
        tokens[row, : len(known)], mask[row, : len(known)] = known, True
    return batch, Responses(tokens, mask, np.zeros(tokens.shape, np.float32), texts)


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"task": Sums(count=0)}, ValueError, "a step needs 2 questions .* the task has 0"),
        ({"optimizer": optax.contrib.muon(0.1)}, ValueError, "must be given dimension numbers"),
        (
            {"optimizer": optax.GradientTransformation(*pgpo.scale_by_information())},
            TypeError,
            "`information` does not reach it",
        ),
        (
            {"rollout": dataclasses.replace(ROLLOUT, thinking=True)},
            ValueError,
            "rollout.thinking must be False with this model",
        ),
        (
            {"objective": SDPO(TeacherConfig(thinking=True))},
            ValueError,
            "teacher.thinking must be False with this model",
        ),
        ({"micro_batch": 3}, ValueError, r"micro_batch must divide .* = 4, got 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_any_work(parts, error, message):
    with pytest.raises(error, match=message):
        make(**parts)


def test_muon_with_its_numbers_is_taken_for_the_model_and_for_factors():
    numbers = {"muon_weight_dimension_numbers": muon_dimension_numbers}
    muon = pgpo.pgpo(optax.contrib.muon(0.1, **numbers))
    for lora in (LoRAConfig(), LoRAConfig(rank=2)):
        trainer = make(optimizer=muon, lora=lora)
        momenta = optax.tree.get_all_with_path(trainer.initial_state.opt_state, "mu")
        assert any("q_proj" in jax.tree_util.keystr(path) for path, _ in momenta) or momenta


def test_rewards_that_fail_are_counted_and_the_run_goes_on(caplog):
    def reward(question, response):
        if "bad" in response:
            raise ZeroDivisionError("no such thing")
        return float("nan") if "odd" in response else 1.0

    trainer = make(Sums(reward))
    batch, responses = answered(trainer, ["1", "bad", "odd", "2"])
    rollout = trainer.graded(trainer.initial_state, batch, responses)
    rows = trainer.packed(rollout, trainer.objective.prepare(rollout))[1]
    assert rollout_metrics(rows)["rollout/grader_failures"] == 2
    assert rollout.scores.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert "no such thing" in caplog.text
    # Where nothing can be graded the reward is broken, and the run ends with its message.
    batch, responses = answered(trainer, ["bad"] * 4)
    with pytest.raises(RuntimeError, match=r"none of 4 responses could be graded.*no such thing"):
        trainer.graded(trainer.initial_state, batch, responses)


def test_the_teacher_is_shown_the_feedback_of_ones_own_reward():
    trainer = make(objective=SDPO(TeacherConfig(feedback=True)))
    batch, responses = answered(trainer, ["no", "no", "no", "no"])
    rollout = trainer.graded(trainer.initial_state, batch, responses)
    lesson = trainer.objective.prepare(rollout)
    assert lesson.kept.all()
    assert all("Count once more." in text for text in lesson.teacher_texts.values())
    # Negative control: without the setting there is nothing to show.
    assert not SDPO().prepare(rollout).kept.any()


def test_sampled_texts_show_what_was_seen():
    trainer = make(objective=SDPO(TeacherConfig(feedback=True)))
    batch, responses = answered(trainer, ["no", "2 1", "no", "no"])
    responses.mask[2] = False  # a response without a token cannot be taught
    rollout = trainer.graded(trainer.initial_state, batch, responses)
    lesson = trainer.objective.prepare(rollout)
    kept = np.flatnonzero(lesson.kept)
    numbers = np.arange(len(kept) * 6, dtype=np.float32).reshape(-1, 6) / 3
    chosen = chosen_responses(lesson, 2, 4)
    rows = shown_rows(chosen, lesson, np.arange(4), 4)
    first, second = rollout_texts(rollout, lesson, chosen, {"information": numbers[rows]})
    assert json.loads(json.dumps(first)) == first
    assert first["question"]["messages"][-1]["content"] == batch.questions[0].prompt
    assert first["grade"]["feedback"] in ("Count once more.", "")
    assert "Count once more." in second["teacher_prompt"]
    # The second question's first response was not kept: its place among the rows is the next one.
    place = kept.tolist().index(3)
    wanted = numbers[place][: responses.mask[3].sum()]
    np.testing.assert_allclose(second["information"], wanted, rtol=1e-4)
    assert len(second["tokens"]) == len(second["information"])
    assert chosen_responses(lesson, 2, 0) == []
    # Of a process that holds other rows of the batch.
    assert shown_rows([3], lesson, np.arange(8, 12), 1).tolist() == [8 + place]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_whole(name, small_model, small_config):
    """What each objective must have, whatever it computes: shapes, and one program for equals."""
    graphdef, params = small_model
    rollout = {"samples": 1} if name == "sft" else {}
    if name in ("opd", "reopold"):
        # They have another model as their teacher, and reopold has one loss alone.
        other = replaced(small_config, teacher={"kind": "external", "model": "another"})
        config = with_published(other, name)
    elif name == "rlcsd":
        # It has two means over tokens alone.
        config = with_published(small_config, name)
    else:
        config = replaced(small_config, objective=name, rollout=rollout)
    objective = config.make_objective()
    assert objective == config.make_objective()
    assert hash(objective) == hash(config.make_objective())
    assert objective.program().program() == objective.program()
    batch = random_experience()._replace(
        columns={column: np.ones(8, np.float32) for column in objective.columns} or None
    )
    if objective.further_prompts:
        prompts = (batch.teacher_prompt, batch.teacher_prompt_mask)
        tokens, mask = (np.stack([x] * objective.further_prompts, axis=1) for x in prompts)
        batch = batch._replace(further_prompt=tokens, further_prompt_mask=mask)

    def run(params, batch):
        models = Models(graphdef, params, params, 1.0)
        denominators = objective.denominators(batch, config.rollout.rows)
        out = objective.combine(objective.loss_of_rows(models, batch, denominators))
        signal = objective.signal(out, batch)
        return out.loss, signal, objective.metrics(out, batch), objective.tokens(out)

    loss, signal, metrics, tokens = jax.eval_shape(run, params, batch)
    assert loss.shape == ()
    assert signal is None or signal.shape == ()
    assert metrics["loss"].shape == ()
    assert {value.shape for value in metrics.values()} == {()}
    assert {value.shape for value in tokens.values()} <= {batch.response.shape}
    # Nothing that is not differentiable stands between the weights and the loss.
    gradient = jax.eval_shape(jax.grad(lambda p, b: run(p, b)[0]), params, batch)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)


def test_runs_with_equal_parts_share_a_program_and_others_do_not():
    optimizer = pgpo.pgpo(optax.sgd(1.0))

    def program(**parts):
        return make(**parts)._step.program

    shared = program(optimizer=optimizer)
    assert shared is program(optimizer=optimizer, seed=5)
    assert program(optimizer=optimizer, objective=GRPO()) is not shared
    assert program(optimizer=pgpo.pgpo(optax.sgd(1.0))) is not shared

    class Own(SDPO):
        __hash__ = None

    assert program(optimizer=optimizer, objective=Own()) is not shared


@pytest.mark.parametrize(
    ("held_out", "error", "message"),
    [
        (
            lambda: [Question("same", "", "", "1?", "1")] * 2,
            ValueError,
            "different ids, got 'same'",
        ),
        (lambda: None, TypeError, "must give a sequence of Question, .* got None"),
        (lambda: ["1 + 1?"], TypeError, "must be of Question, got '1"),
    ],
)
def test_a_test_split_that_is_none_is_refused(held_out, error, message):
    class Own(Sums):
        def questions(self, split, seed):
            return super().questions(split, seed) if split == "train" else held_out()

    with pytest.raises(error, match=message):
        make(Own())


def test_a_question_of_numbers_is_refused_when_it_is_made():
    question = Question("q", "", "", "1?", "1")
    # Past the type checks of the suite, which users do not have.
    object.__setattr__(question, "answer", 1)
    with pytest.raises(TypeError, match=r"Question\.answer must be a string, got 1"):
        question.__post_init__()


def test_a_task_that_has_a_grader_grades_by_itself():
    class Halves(Sums):
        grader = make_grader("exact=2.0")

        def grade(self, question, response):
            return Grade(0.5 * self.grader(question, response).score)

    trainer = make(Halves())
    batch, responses = answered(trainer, ["1", "1", "2", "2"])
    rollout = trainer.graded(trainer.initial_state, batch, responses)
    assert set(rollout.scores.tolist()) <= {0.0, 1.0}


def test_a_selection_without_held_out_questions_is_refused(tmp_path):
    class Alone(Sums):
        def questions(self, split, seed):
            return super().questions(split, seed) if split == "train" else []

    with pytest.raises(ValueError, match=r"need held-out questions.*got \(False, 3\)"):
        make(Alone()).fit(tmp_path / "run", selection=SelectionConfig(patience=3))
    for trackers, message in (("tensorboard", "must be a sequence"), (["nope"], "got 'nope'")):
        with pytest.raises((TypeError, ValueError), match=message):
            make().fit(tmp_path / "run", trackers=trackers)
    # Nothing was claimed, so that the corrected command can be given.
    assert not (tmp_path / "run").exists()


def test_weights_that_were_trained_are_not_trained_again(tmp_path):
    policy = load_policy("tiny")
    parts = (policy, Sums(), SDPO(), pgpo.pgpo(optax.sgd(1.0)))
    trainer = Trainer(*parts, rollout=ROLLOUT)
    # What a fit does to its initial state.
    jax.tree.map(lambda x: x.delete(), trainer.initial_state)
    with pytest.raises(RuntimeError, match=r"was given to an earlier fit.*load the policy anew"):
        trainer.fit(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    jax.tree.map(lambda x: x.is_deleted() or x.delete(), policy.params)
    with pytest.raises(RuntimeError, match="were given to an earlier trainer"):
        Trainer(*parts, rollout=ROLLOUT)


def test_a_task_without_a_test_split_is_not_evaluated():
    class Alone(Sums):
        def questions(self, split, seed):
            return super().questions(split, seed) if split == "train" else []

    assert make(Alone()).held_out == ()
    assert [q.id for q in make().held_out] == ["test0"]
    with pytest.raises(ValueError, match="questions must be at most 1, got 2"):
        make(evaluation=EvaluationConfig(questions=2))
