"""REOPOLD: recorded values and gradients through the objective, phases, masks, micro-batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax.distillation import share_threshold
from pgpo_jax.tasks import Grade
from pgpo_jax.training import (
    REOPOLD,
    Experience,
    LossConfig,
    Models,
    Policy,
    ReopoldConfig,
    Responses,
    Rollout,
    TeacherConfig,
    TrainConfig,
)
from tests.core.test_advantage import STUDENT, TEACHER, TOLERANCE
from tests.training.conftest import random_experience, replaced
from tests.training.test_opd import (
    assert_the_same_on_a_mesh,
    behind_the_students_prompt,
    copies,
    decoders,
    descent,
    step_of,
)

__all__ = ["decoders"]

EXTERNAL = {"kind": "external", "model": "another"}
LOSS = LossConfig(
    form="advantage",
    support="sampled",
    teacher_weight=1.0,
    reduction="token_mean",
    rollout_clip=None,
    chunk=1,
)


class Table(nnx.Module):
    """A model that says the same logits behind every prompt of one token."""

    def __init__(self, logits):
        self.logits = nnx.Param(jnp.asarray(logits))

    def hidden_states(self, tokens, mask):
        del mask
        return jnp.broadcast_to(self.logits[...], (len(tokens), *self.logits.shape))

    def head(self):
        return jnp.eye(4, dtype=self.logits.dtype)


def rows(tokens, second, dtype):
    one = jnp.ones((1, 1), bool)
    return Experience(
        prompt=jnp.zeros((1, 1), int),
        prompt_mask=one,
        teacher_prompt=jnp.zeros((1, 1), int),
        teacher_prompt_mask=one,
        response=jnp.asarray(tokens)[None],
        response_mask=jnp.ones((1, 2), bool),
        sampler_logprobs=jnp.zeros((1, 2), dtype),
        sequence_mask=jnp.ones(1, bool),
        signal_mask=jnp.ones(1, bool),
        score=jnp.zeros(1, dtype),
        columns={"by_entropy": jnp.full(1, second, dtype)},
    )


def value_and_gradient(dtype, second, share=0.2, teacher=TEACHER, tokens=(0, 2), **loss):
    settings = replaced(LOSS, **loss)
    reopold = ReopoldConfig(entropy_share=share)
    objective = REOPOLD(TeacherConfig(**EXTERNAL), settings, reopold=reopold)
    graphdef, params = nnx.split(Table(jnp.asarray(STUDENT, dtype)), nnx.Param)
    other, weights = nnx.split(Table(jnp.asarray(teacher, dtype)), nnx.Param)
    batch = rows(tokens, second, dtype)
    denominators = objective.denominators(batch, 1)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        models = Models(graphdef, params, weights, 1.0, other)
        return objective.loss_of_rows(models, batch, denominators).loss

    value, gradient = loss(params)
    return value, gradient["logits"].get_value()


EXCLUDING = np.array([[0.5, 1.0, -5.0, 0.0], TEACHER[1]])
CASES = {
    "first phase, both kept": (
        {"second": 0.0},
        0.172307918,
        (0.142225354, -0.047147557, -0.017344617, -0.077733180),
        0.023091359,
    ),
    "second phase, half kept": (
        {"second": 1.0, "share": 0.5},
        -0.196155566,
        (0, 0, 0, 0),
        0.046182719,
    ),
    "the floor holds": (
        {"second": 1.0, "share": 1.0, "teacher": EXCLUDING, "tokens": (2, 2)},
        0.761902792,
        (-0.407622920, -0.149956092, 0.804814811, -0.247235799),
        0.023091359,
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_recorded_values_and_gradients(x64, name, dtype):
    settings, value, first, second = CASES[name]
    got, gradient = value_and_gradient(dtype, **settings)
    near = {"atol": TOLERANCE[dtype], "rtol": 0}
    np.testing.assert_allclose(got, value, **near)
    np.testing.assert_allclose(gradient[0], first, **near)
    np.testing.assert_allclose(gradient[1, 0], second, **near)


def test_the_first_phase_leaves_out_what_the_teacher_excludes(x64):
    got, gradient = value_and_gradient("float64", 0.0, teacher=EXCLUDING, tokens=(2, 2))
    # The second token alone: its mean is over one.
    np.testing.assert_allclose(got, -0.196155566, atol=1e-9)
    assert not gradient[0].any()
    np.testing.assert_allclose(gradient[1, 0], 0.046182719, atol=1e-9)


@pytest.mark.parametrize("second", [0.0, 1.0])
def test_tokens_that_are_skipped_have_no_part_in_the_mean(x64, second):
    # The second token is the only one that counts, by its log-ratio or as the least sure one.
    got, gradient = value_and_gradient("float64", second, skip_tokens=1)
    np.testing.assert_allclose(got, -0.196155566, atol=1e-9)
    assert not gradient[0].any()
    # Negative control: without skipping the first phase has both tokens.
    both, gradient = value_and_gradient("float64", 0.0)
    assert gradient[0].all()
    assert not np.isclose(both, got)


@pytest.mark.parametrize(
    ("share", "kept"), [(0.001, 1), (0.24, 2), (0.26, 3), (0.5, 5), (0.95, 10), (1.0, 10)]
)
def test_the_share_is_of_the_tokens_that_count(share, kept):
    values = jnp.asarray(np.random.default_rng(0).permutation(20.0 * np.arange(12))).reshape(3, 4)
    mask = (jnp.arange(12).reshape(3, 4) % 6) != 1
    values = jnp.where(mask, values, jnp.nan).astype(jnp.float32)
    threshold = share_threshold(values, mask, share)
    # Rounded to whole tokens, halves up.
    assert int((mask & (values >= threshold)).sum()) == kept


def test_equal_values_are_kept_together_and_no_share_is_refused():
    values, mask = jnp.array([[1.0, 1.0, 0.0, 1.0]]), jnp.ones((1, 4))
    assert int((values >= share_threshold(values, mask, 0.5)).sum()) == 3
    for share in (0, 1.5):
        with pytest.raises(ValueError, match="share must be above 0 and at most 1, got"):
            share_threshold(values, mask, share)


@pytest.fixture
def config(small_config):
    return replaced(
        small_config,
        objective="reopold",
        teacher=EXTERNAL,
        rollout={"temperature": 0.7},
        loss={
            "form": "advantage",
            "support": "sampled",
            "teacher_weight": 1.0,
            "reduction": "token_mean",
        },
        reopold={"floor_lambda": 0.6, "entropy_share": 0.4},
    )


@pytest.mark.slow
@pytest.mark.parametrize("second", [0.0, 1.0])
def test_the_step_is_the_plain_composition_whole_and_in_parts(bags, config, second):
    batch = random_experience()._replace(columns={"by_entropy": np.full(8, second, np.float32)})
    device = jax.tree.map(jnp.asarray, batch)
    state, metrics = step_of(copies(bags), config, optimizer=descent())(device)
    student = jax.nn.log_softmax(behind_the_students_prompt(nnx.merge(*bags[0]), batch))
    teacher = jax.nn.log_softmax(behind_the_students_prompt(nnx.merge(*bags[1]), batch))
    mask, at = batch.response_mask, batch.response[..., None]
    reward = np.take_along_axis(np.asarray(teacher - student), at, -1)[..., 0]
    floor = config.reopold.floor
    entropies = np.where(mask, -(np.exp(student) * student).sum(-1), -np.inf)
    kept = mask & (reward >= floor)
    if second:
        count = int(np.floor(0.4 * mask.sum() + 0.5))
        kept = entropies >= np.sort(entropies.ravel())[-count]
    assert 0 < kept.sum() < mask.sum()
    assert (reward[mask] < floor).any()
    wanted = -np.maximum(reward, floor)[kept].mean()
    np.testing.assert_allclose(metrics["loss"], wanted, rtol=1e-5)
    fraction = float(metrics["reopold/kept_fraction"])
    assert fraction == pytest.approx(kept.sum() / mask.sum())
    below = (reward[mask] < floor).mean()
    assert float(metrics["reopold/below_floor_fraction"]) == pytest.approx(below)
    assert float(metrics["reopold/second_phase"]) == second
    parts = replaced(config, optimizer={"micro_batch": 2})
    summed, parted = step_of(copies(bags), parts, optimizer=descent())(device)
    for name in ("loss", "pgpo/information", "optimizer/grad_norm", "reopold/kept_fraction"):
        np.testing.assert_allclose(parted[name], metrics[name], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), summed.params, state.params
    )
    # Negative control: masks of each micro-batch alone are others.
    alone = [
        step_of(copies(bags), config, optimizer=descent())(
            device._replace(sequence_mask=(np.arange(8) % 4 == i) & batch.sequence_mask)
        )[1]["reopold/kept_fraction"]
        for i in range(2 if second else 0)
    ]
    assert not second or abs(np.mean(alone) - fraction) > 1e-3


@pytest.mark.slow
def test_the_second_phase_is_the_same_on_a_mesh_and_with_factors(decoders, config):
    batch = random_experience()._replace(columns={"by_entropy": np.ones(8, np.float32)})
    thin = replaced(config, lora={"rank": 2, "base_dtype": "float32"})
    assert_the_same_on_a_mesh(decoders, thin, batch)


def rollout(step):
    mask = np.array([[1, 1, 0], [0, 0, 0]], bool)
    responses = Responses(np.zeros((2, 3), np.int32), mask, np.zeros((2, 3)), ["", ""])
    policy, grades = Policy(None, None, (1,), 0), [Grade(0.0, "")] * 2
    return Rollout(step, 0, 2, 2, policy, [None], [[1]], responses, grades)


def test_the_phase_is_a_function_of_the_step():
    objective = REOPOLD(TeacherConfig(**EXTERNAL), LOSS, reopold=ReopoldConfig(switch_step=3))
    phases = []
    for step in range(5):
        lesson = objective.prepare(rollout(step))
        assert lesson.kept.tolist() == [True, False]
        phases.append(lesson.columns["by_entropy"].tolist())
    assert phases == [[0, 0]] * 3 + [[1, 1]] * 2
    assert (
        REOPOLD(reopold=ReopoldConfig(switch_step=0))
        .prepare(rollout(0))
        .columns["by_entropy"]
        .all()
    )


@pytest.mark.parametrize(
    ("sections", "rule"),
    [
        ({}, r"teacher\.kind must be 'external' with objective 'reopold'"),
        ({"teacher": EXTERNAL}, r"loss\.form must be 'advantage' with objective 'reopold'"),
        (
            {"teacher": EXTERNAL, "loss": {"form": "advantage", "teacher_weight": 1.0}},
            r"loss\.support must be 'sampled'.* got 'topk_tail'",
        ),
        (
            {
                "teacher": EXTERNAL,
                "loss": {"form": "advantage", "teacher_weight": 1.0, "support": "sampled"},
            },
            r"loss\.reduction must be 'token_mean'.* got 'sequence_mean'",
        ),
        ({"reopold": {"floor_lambda": 1.0}}, "floor_lambda must be above 0 and below 1, got 1"),
        ({"reopold": {"switch_step": -1}}, "switch_step must be at least 0, got -1"),
        ({"reopold": {"entropy_share": 0.0}}, "entropy_share must be above 0 and at most 1"),
    ],
)
def test_settings_that_contradict_are_refused(sections, rule):
    with pytest.raises(ValueError, match=rule):
        replaced(TrainConfig(), **sections, objective="reopold")
