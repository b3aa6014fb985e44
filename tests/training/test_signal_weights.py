"""Weights by the teacher's entropy, the position and the pass rate: values, bounds, rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax import distillation
from pgpo_jax.training import (
    OPSD,
    RLSD,
    SDPO,
    LossConfig,
    Models,
    TrainConfig,
    with_published,
)
from tests.training.conftest import BagOfWords, replaced
from tests.training.test_family import (
    ROLLOUT,
    answered,
    assert_same,
    make,
    of_objective,
    one_step,
    published,
    routed_batch,
)

# KL(q||p) of both tokens and the teacher's entropies, from another program.
FORWARD, ENTROPY = np.array([0.243346272, 0.085906952]), np.array([1.245050427, 1.181738046])
# Its gradient in the first token's logits and the second's first one, for each token alone.
# Six responses to three questions, out of order; one says again what another one said.
QUESTIONS = {
    "question": np.array([2, 0, 1, 0, 2, 2], np.float32),
    "differs": np.array([1, 1, 1, 1, 1, 0], np.float32),
}
SLOPES = np.array([0.098993251, -0.140341373, -0.018694319, 0.060042442, 0.039112581])


def opsd(**loss):
    config = replaced(with_published(TrainConfig(), "opsd"), loss={"rollout_clip": None, **loss})
    return config.make_objective()


def test_the_weight_by_position_is_that_of_the_formula(x64):
    value = -0.054449778
    gradient = (-0.004719770, 0.025331019, -0.017748564, -0.002862685, -0.049531362)
    found = of_objective(opsd(weight="position", entry_clip=0.05))
    np.testing.assert_allclose(found[0], value, atol=1e-9, rtol=0)
    np.testing.assert_allclose(found[1], gradient, atol=1e-9, rtol=0)
    # The control: without a weight, and with another floor.
    for other in (opsd(entry_clip=0.05), opsd(weight="position", entry_clip=0.05, weight_min=0.5)):
        assert abs(of_objective(other)[0] - value) > 1e-3
    # The place is that in the response, also where the first tokens are left out of the loss.
    late = of_objective(opsd(weight="position", skip_tokens=1))[0]
    weight = 0.25 + 0.75 / (1 + np.exp(-(0.75 - 0.3) / 0.1))
    np.testing.assert_allclose(late, weight * FORWARD[1], atol=1e-9)


def test_the_weight_by_entropy_is_that_of_the_formula(x64):
    weights = 0.25 + 0.75 * np.exp(-ENTROPY)
    found = of_objective(opsd(weight="teacher_entropy"))
    np.testing.assert_allclose(found[0], (weights * FORWARD).mean(), atol=1e-9, rtol=0)
    slopes = SLOPES * np.append(np.repeat(weights[0], 4), weights[1])
    np.testing.assert_allclose(found[1], slopes, atol=2e-9, rtol=0)
    # The control: a floor of 1 is no weight.
    plain = of_objective(opsd(weight="teacher_entropy", weight_min=1.0))[0]
    np.testing.assert_allclose(plain, FORWARD.mean(), atol=1e-9)
    assert abs(found[0] - plain) > 1e-2
    # Without a floor it is SRPO's weight, which is over the mean.
    srpo = distillation.certainty_weights(jnp.array([1.272591793, 1.279429572]), least=0)
    np.testing.assert_allclose(srpo / srpo.mean(), [1.003418876, 0.996581124], atol=1e-9)


def test_the_weight_by_pass_rate_is_that_of_the_formula(x64):
    rates = jnp.array([0.125, 0.5, 0.875])
    weights = distillation.pass_rate_weights(rates)
    np.testing.assert_allclose(weights, [0.854248689, 1.291502622, 0.854248689], atol=1e-9)
    columns = {"weight": np.array([1.291502622])}
    found = of_objective(opsd(weight="pass_rate"), columns=columns)
    np.testing.assert_allclose(found[0], 1.291502622 * FORWARD.mean(), atol=1e-9)
    np.testing.assert_allclose(found[1], 1.291502622 * SLOPES, atol=2e-9)
    # The control: of another column it is another loss.
    other = of_objective(opsd(weight="pass_rate"), columns={"weight": np.array([0.5])})
    assert abs(other[0] - found[0]) > 1e-2


@pytest.mark.parametrize("least", [0.0, 0.25, 1.0])
def test_bounds_precision_and_gradient(least):
    by_place, by_entropy = distillation.position_weights, distillation.certainty_weights
    for weigh, extremes in (
        (by_place, [-jnp.inf, 0.0, 0.3, 1.0, jnp.inf]),
        (by_entropy, [-1e-7, 0.0, 1.0, 11.9, jnp.inf]),
    ):
        found = weigh(jnp.array(extremes, jnp.bfloat16), least=least)
        assert found.dtype == jnp.float32
        assert float(found.min()) >= least
        assert float(found.max()) <= 1
        # The control: between the bounds it moves.
        assert float(found.max() - found.min()) == pytest.approx(1 - least, abs=1e-5)
        assert not jax.grad(lambda x, weigh=weigh: weigh(x, least=least))(jnp.array(0.5))
    rates = jnp.array([0.0, 1.0] * 8 + [0.5])
    assert distillation.pass_rate_weights(rates)[-1] == 2
    assert distillation.pass_rate_weights(rates, most=100)[-1] == 17
    assert not distillation.pass_rate_weights(rates[:-1]).any()


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("sdft", "teacher_entropy"),
        ("opsd", "position"),
        ("rlsd", "pass_rate"),
        ("opsd", "belief_shift"),
        ("rlcsd", "belief_shift"),
    ],
)
def test_micro_batches_are_the_batch(small_config, name, weight):
    model = nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)
    plain = published(small_config, name)
    config = replaced(plain, loss={"weight": weight, "weight_share": 0.5})
    batch = routed_batch(name, rows=6, kept=5)
    columns = {
        "weight": np.linspace(0, 2, 6, dtype=np.float32),
        **QUESTIONS,
        **(batch.columns or {}),
    }
    batch = batch._replace(columns=columns)
    whole = one_step(model, config, batch)
    assert_same(whole, one_step(model, config, batch, micro_batch=2))
    assert float(whole[1]["optimizer/grad_norm"]) > 1e-4
    assert 0 < float(whole[1].pop("distillation/weight")) < 2
    # The control: without the weight it is another step; the information is the same.
    other = one_step(model, plain, batch)
    assert float(whole[1]["pgpo/information"]) == pytest.approx(
        float(other[1]["pgpo/information"]), rel=1e-6
    )
    with pytest.raises(AssertionError):
        assert_same(whole, other)


def shifts(out, batch):
    """B of each question by hand, from the log-probabilities of whole responses."""
    logprobs = np.float64([out.student_logprobs, out.teacher_logprobs]).sum(2)
    found = {}
    for question in set(QUESTIONS["question"][batch.sequence_mask].tolist()):
        rows = (
            (QUESTIONS["question"] == question) & batch.sequence_mask & (QUESTIONS["differs"] > 0)
        )
        above = np.exp(logprobs[:, rows] - logprobs[:, rows].max(1, keepdims=True))
        p, q = above / above.sum(1, keepdims=True)
        m = (p + q) / 2
        found[question] = (p * np.log(p / m) + q * np.log(q / m)).sum() / 2
    return found


@pytest.mark.parametrize("share", [0.34, 0.6, 1.0])
def test_the_questions_of_the_largest_shift_train(share):
    graphdef, student = nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)
    teacher = jax.tree.map(lambda p: 1.5 * p, student)
    batch = routed_batch("opsd", rows=6, kept=5)._replace(columns=QUESTIONS)
    # Of equal lengths: else the shorter of two answers is nearly sure, whoever is asked.
    batch.response_mask[:] = (np.arange(6) < 2) & batch.sequence_mask[:, None]

    def loss(weight, rows):
        objective = opsd(weight=weight, weight_share=share, reduction="sequence_mean")
        part = jax.tree.map(jnp.asarray, batch._replace(sequence_mask=rows))
        models = Models(graphdef, student, teacher, 1.0)
        return objective.loss_of_rows(models, part, objective.denominators(part, 6))

    weighed = loss("belief_shift", batch.sequence_mask)
    found = shifts(weighed, batch)
    # Rounded up: 2, 2 and 3 of the three questions; the one with a single answer has no shift.
    chosen = sorted(found, key=found.get)[-int(np.ceil(3 * share)) :]
    assert (1.0 in chosen) is (share == 1)
    assert sorted(found.values())[0] == 0
    assert sorted(found.values())[1] > 1e-6
    rows = batch.sequence_mask & np.isin(QUESTIONS["question"], chosen)
    alone = float(loss("none", rows).loss) * batch.sequence_mask.sum() / rows.sum()
    np.testing.assert_allclose(float(weighed.loss), alone, rtol=1e-5)
    # The control: all of them is another loss, unless all are chosen.
    plain = float(loss("none", batch.sequence_mask).loss)
    assert (abs(plain - alone) < 1e-6) == (share == 1)


def test_the_questions_and_their_different_answers_are_told():
    made = OPSD(loss=LossConfig(weight="belief_shift"))
    trainer = make(made, rollout=dataclasses.replace(ROLLOUT, samples=4, questions=2))
    lesson = made.prepare(answered(trainer, ["no", "so", "no", "", "no", "1", "1", "1"]))
    assert lesson.columns["question"].tolist() == [0] * 4 + [1] * 4
    # An empty answer is not kept, and what is said again is no other answer.
    assert lesson.columns["differs"].tolist() == [1, 1, 0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("objective", [OPSD, RLSD, SDPO])
def test_the_pass_rate_is_that_of_the_question(objective):
    made = objective(loss=LossConfig(weight="pass_rate"))
    trainer = make(made, rollout=dataclasses.replace(ROLLOUT, samples=4, questions=2))
    right = [question.answer for question in trainer.stream.batch(0).questions]
    lesson = made.prepare(
        answered(trainer, [right[0], "no", "no", "no", right[1], right[1], *"no"])
    )
    assert set(lesson.columns) == set(made.columns)
    # Three of four wrong, and half: .433013 and .5 over their mean.
    want = np.repeat([0.928203, 1.071797], 4)
    np.testing.assert_allclose(lesson.columns["weight"], want, atol=1e-6)
    # The control: groups without a difference have nothing to learn from.
    none = made.prepare(answered(trainer, ["no"] * 4 + [right[1]] * 4))
    assert not none.columns["weight"].any()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"loss": {"weight_min": 1.5}}, "weight_min must be in"),
        ({"loss": {"weight_max": 0.5}}, "weight_max must be at least 1 and finite, got 0.5"),
        (
            {"loss": {"weight": "pass_rate"}, "rollout": {"samples": 1}, "objective": "opsd"},
            "samples must be at least 2 with loss.weight 'pass_rate'",
        ),
        ({"loss": {"weight_share": 0.0}}, "weight_share must be above 0 and at most 1, got 0.0"),
        (
            {"loss": {"weight": "belief_shift"}, "rollout": {"samples": 1}, "objective": "opsd"},
            "samples must be at least 2 with loss.weight 'belief_shift'.*got 1",
        ),
        *(
            (
                {"loss": {"weight": "position"}, "objective": name},
                f"loss.weight must be 'none' with objective '{name}'",
            )
            for name in ("srpo", "drift", "grpo", "rltf")
        ),
    ],
)
def test_contradictions_are_refused_by_name(changes, rule):
    with pytest.raises(ValueError, match=rule):
        replaced(TrainConfig(), **changes)


OWN = """
from pgpo_jax.training import GRPO, SDPO, Lesson


class Forgetful(SDPO):
    def prepare(self, rollout):
        return Lesson(rollout.answered)


def forgetful(sections):
    return Forgetful(sections.teacher, sections.loss, sections.information)


def rewarded(sections):
    return GRPO(sections.loss)
"""


def test_an_own_objective_must_take_part(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    loss = {"weight": "pass_rate"}
    with pytest.raises(ValueError, match=r"must be 'none' with .*:rewarded: .* GRPO is none"):
        replaced(TrainConfig(), objective=f"{tmp_path}/own.py:rewarded", loss=loss).make_objective()
    made = replaced(
        TrainConfig(), objective=f"{tmp_path}/own.py:forgetful", loss=loss
    ).make_objective()
    assert made.weight is not None
    with pytest.raises(ValueError, match=r"prepare must return self.weighed\(rollout, lesson\)"):
        of_objective(opsd(weight="pass_rate"))
