"""RLCSD: recorded values through the objective, which responses are contrasted, hints, sharing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax.distillation import contrasted_advantages, hint_contrast
from pgpo_jax.training import (
    RLCSD,
    LossConfig,
    Models,
    RlcsdConfig,
    RolloutConfig,
    TeacherConfig,
    make_trainer,
    with_published,
)
from tests.training.conftest import random_experience, replaced
from tests.training.test_family import (
    STUDENT,
    STUDENT_B,
    TEACHER,
    TEACHER_B,
    answered,
    make,
)
from tests.training.test_train import SMALL

LOSS = LossConfig(reduction="token_mean", rollout_clip=None, chunk=1)
# Section 12 of the collection of values: A = .5, tau = .02, beta * lambda = .5.
VALUE, GRADIENT = -0.5, (0.0, 0.0, 0.0, 0.0, 0.117719624)


class ByPrompt(nnx.Module):
    """A model that says one table of logits behind each prompt of one token."""

    def __init__(self, tables):
        self.tables = nnx.Param(jnp.asarray(tables))

    def hidden_states(self, tokens, mask):
        del mask
        return self.tables[...][tokens[:, 0]]

    def head(self):
        return jnp.eye(4, dtype=self.tables[...].dtype)


def value_and_gradient(dtype, hints=(2, 3), count=2, micro=False, **settings):
    """Of the recorded case: the student's prompt is 0, the right hint 1, wrong hints 2 and 3."""
    tables = np.array([STUDENT, TEACHER, STUDENT_B, TEACHER_B], dtype)
    objective = RLCSD(TeacherConfig(), LOSS, rlcsd=RlcsdConfig(len(hints), **settings))
    graphdef, weights = nnx.split(ByPrompt(tables), nnx.Param)
    one = jnp.ones((1, 1), bool)
    batch = random_experience(rows=1, kept=1, response=2)._replace(
        prompt=jnp.array([[0]]),
        prompt_mask=one,
        teacher_prompt=jnp.array([[1]]),
        teacher_prompt_mask=one,
        further_prompt=jnp.array(hints)[None, :, None],
        further_prompt_mask=jnp.ones((1, len(hints), 1), bool),
        response=jnp.array([[0, 2]]),
        response_mask=jnp.ones((1, 2), bool),
        columns={"advantage": jnp.array([0.5], dtype), "wrong_hints": jnp.array([count], dtype)},
    )
    batch = jax.tree.map(jnp.asarray, batch)

    @jax.jit
    @jax.value_and_grad
    def loss(student):
        models = Models(graphdef, student, weights, 1.0)
        denominators = objective.denominators(batch, 1)
        if micro:
            denominators |= objective.beforehand(models, batch)
        return objective.loss_of_rows(models, batch, denominators).loss

    value, slopes = loss(weights)
    slopes = slopes["tables"][...]
    assert not slopes[1:].any()
    return float(value), [*map(float, slopes[0, 0]), float(slopes[0, 1, 0])]


@pytest.mark.parametrize("micro", [False, True])
def test_the_loss_is_that_of_the_formula(x64, micro):
    value, gradient = value_and_gradient(np.float64, micro=micro)
    np.testing.assert_allclose(value, VALUE, atol=1e-9, rtol=0)
    np.testing.assert_allclose(gradient, GRADIENT, atol=1e-9, rtol=0)
    # A place behind the count is not read, and one hint in the place of two is another loss.
    assert value_and_gradient(np.float64, hints=(2, 3, 1)) == (value, gradient)
    other = value_and_gradient(np.float64, hints=(2, 1), temperature=1.0)
    assert abs(other[0] - value_and_gradient(np.float64, temperature=1.0)[0]) > 1e-3


def test_the_loss_is_that_of_the_formula_in_float32():
    value, gradient = value_and_gradient(np.float32)
    np.testing.assert_allclose(value, VALUE, atol=1e-6, rtol=0)
    np.testing.assert_allclose(gradient, GRADIENT, atol=1e-6, rtol=0)


def test_the_contrast_and_the_moves_are_recorded_ones(x64):
    tables = jax.nn.log_softmax(jnp.array([TEACHER, STUDENT_B, TEACHER_B]), axis=-1)
    right, *wrong = tables[:, jnp.arange(2), jnp.array([0, 2])][:, None]
    contrast = hint_contrast(right, jnp.stack(wrong), jnp.array([2]))
    np.testing.assert_allclose(contrast[0], [-0.234043209, 0.934537868], atol=1e-9)
    moved = contrasted_advantages(jnp.full((1, 2), 0.5), contrast)
    np.testing.assert_allclose(moved.advantages[0], [0.0, 1.0], atol=1e-9)
    assert moved.selected.all()


def test_moved_tokens_and_the_others_have_a_mean_each(x64):
    """Where one of two tokens is moved, each is its whole mean."""
    found = {"threshold": 0.4, "temperature": 0.4}
    both = value_and_gradient(np.float64, **found)[0]
    # Contrasts of -.234 and .935 move by -.265, which is left out, and by .491.
    np.testing.assert_allclose(both, -0.5 - (0.5 + 0.5 * np.tanh(0.934537868 / 0.4)), atol=1e-9)
    weighed = value_and_gradient(np.float64, moved_weight=3.0, **found)[0]
    np.testing.assert_allclose(weighed, 3 * (both + 0.5) - 0.5, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"scale": -1.0}, "scale must be a number >= 0 and finite"),
        ({"temperature": 0.0}, "temperature must be a number > 0 and finite, in nats"),
        ({"clip": float("nan")}, "clip must be a number >= 0 and finite"),
        ({"threshold": -0.1}, "threshold must be a number >= 0 and finite"),
    ],
)
def test_moves_outside_their_range_are_refused(settings, rule):
    with pytest.raises(ValueError, match=rule):
        contrasted_advantages(jnp.ones(1), jnp.ones(1), **settings)


def test_another_mean_is_refused_from_python_too():
    assert RLCSD().loss.reduction == "token_mean"
    with pytest.raises(ValueError, match=r"'token_mean' with objective 'rlcsd'.*'sequence_mean'"):
        RLCSD(loss=LossConfig())


ROLLOUT = RolloutConfig(questions=1, samples=5, max_prompt=60, max_response=6, row_buckets=1)


def prepared(texts, **settings):
    objective = RLCSD(settings.pop("teacher", TeacherConfig()), LOSS, rlcsd=RlcsdConfig(**settings))
    trainer = make(objective, rollout=ROLLOUT)
    answer = trainer.stream.batch(0).questions[0].answer
    rollout = answered(trainer, [answer if text == "right" else text for text in texts])
    lesson = objective.prepare(rollout)
    return trainer, rollout, lesson


def hints(trainer, lesson, row):
    """What the teacher of a response is shown, decoded: the right hint, then the wrong ones."""
    found = (lesson.teacher_prompts, *lesson.further_prompts)
    return [trainer.policy.tokenizer.decode(ids[row]) for ids in found]


def test_each_response_has_right_and_wrong_hints_of_its_peers():
    trainer, _, lesson = prepared(["right", "cat", "dog", "right", "owl"], wrong_hints=3)
    assert lesson.kept.all()
    assert lesson.columns["wrong_hints"].tolist() == [3, 2, 2, 3, 2]
    right, *wrong = hints(trainer, lesson, 0)
    assert [word in hint for word, hint in zip(("cat", "dog", "owl"), wrong, strict=True)] == [
        True
    ] * 3
    # A response is no hint for itself; the place of a missing one repeats the last.
    _, *wrong = hints(trainer, lesson, 1)
    assert [("dog" in hint, "owl" in hint) for hint in wrong] == [
        (True, False), (False, True), (False, True),
    ]  # fmt: skip
    # The same words stand around every hint.
    assert right.replace(trainer.stream.batch(0).questions[0].answer, "") != right
    assert all("Here is a reference solution to this problem:" in hint for hint in (right, *wrong))


def test_responses_without_both_hints_are_dropped_and_counted():
    # The only right response has no right peer, and the only wrong one no wrong peer.
    trainer, rollout, lesson = prepared(["right", "no", "so", "of", "no"])
    assert lesson.kept.tolist() == [False, True, True, True, True]
    rows = trainer.packed(rollout, lesson)[1]
    metrics = trainer.objective.row_metrics(rows, 5)
    assert metrics["self_distillation/reprompt_sample_fraction"] == 0.8
    assert metrics["rlcsd/contrasted_fraction"] == 0.8
    assert metrics["rlcsd/wrong_hints"] == 3
    lesson = prepared(["right", "right", "right", "right", "no"])[2]
    assert lesson.kept.tolist() == [True, True, True, True, False]
    for texts in (["right"] * 5, ["no"] * 5):
        assert not prepared(texts)[2].kept.any()
    # Too long to be read: left out and counted.
    short = TeacherConfig(max_prompt=8)
    trainer, rollout, lesson = prepared(["right", "cat", "dog", "right", "owl"], teacher=short)
    assert not lesson.kept.any()
    rows = trainer.packed(rollout, lesson)[1]
    assert trainer.objective.row_metrics(rows, 5)["self_distillation/dropped_teacher_prompts"] == 5


@pytest.mark.parametrize("share", [False, True])
def test_further_prompts_are_packed_as_they_are(share):
    trainer, rollout, lesson = prepared(["right", "cat", "dog", "right", "owl"], wrong_hints=3)
    trainer.rollout_settings = dataclasses.replace(ROLLOUT, share_prompts=share)
    batch = trainer.packed(rollout, lesson)[0]
    prompts, masks, owners = batch.each_further_prompt()
    assert (owners is None) is not share
    for k, known in enumerate(lesson.further_prompts):
        places = range(5) if owners is None else owners[k]
        found = [prompts[k][i][masks[k][i]].tolist() for i in places]
        assert found == [known[row] for row in range(5)]
    first, second, third = lesson.further_prompts
    short = {row: ids for row, ids in second.items() if row != 3}
    lesson = lesson._replace(further_prompts=[first, short, third])
    with pytest.raises(ValueError, match=r"further_prompts\[1\] must hold .* responses \[3\]"):
        trainer.packed(rollout, lesson)


def test_a_lesson_without_the_declared_prompts_is_refused():
    trainer, rollout, lesson = prepared(["right", "cat", "dog", "right", "owl"], wrong_hints=3)
    short = lesson._replace(further_prompts=lesson.further_prompts[:1])
    with pytest.raises(ValueError, match=r"that is 3 mappings \(further_prompts\), got 1"):
        trainer.packed(rollout, short)


@pytest.mark.slow
def test_a_shared_prompt_gives_the_same_step():
    """With a rollout of the shipped model, whose groups are mixed; a wrong owner is told."""
    metrics, batches = [], []
    for share in (False, True):
        config = with_published(replaced(SMALL, rollout={"share_prompts": share}), "rlcsd")
        config = replaced(config, rollout={"samples": 4}, rlcsd={"wrong_hints": 2})
        trainer = make_trainer(config)
        batch, responses = trainer.respond(trainer.initial_state)
        rollout = trainer.graded(trainer.initial_state, batch, responses)
        packed = trainer.packed(rollout, trainer.objective.prepare(rollout))[0]
        assert packed.sequence_mask.any()
        batches.append(packed)
        metrics.append(trainer.step(trainer.initial_state)[1].metrics)
    for name, value in metrics[0].items():
        np.testing.assert_allclose(metrics[1][name], value, rtol=2e-4, atol=2e-6, err_msg=name)
    assert 0 < metrics[0]["rlcsd/moved_fraction"] <= 1
    shared = batches[1]
    wrong = shared._replace(further_prompt_owner=np.zeros_like(shared.further_prompt_owner))
    other = make_trainer(config)
    told = other._step(other.initial_state, jax.tree.map(np.asarray, wrong))[1]
    assert abs(float(told["rlcsd/contrast_size"]) - metrics[0]["rlcsd/contrast_size"]) > 1e-4
