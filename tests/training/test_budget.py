"""The information budget in a step: the movement that it is given, and settings it contradicts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from pgpo_jax import scale_by_information_budget
from pgpo_jax.information import kl_gain_per_token
from pgpo_jax.training import TrainConfig, with_information
from pgpo_jax.training.objectives._movement import STRIDE
from pgpo_jax.training.update._check_optimizer import check_takes_information
from tests.training.conftest import (
    BagOfWords,
    config_state,
    config_step,
    fresh,
    random_experience,
    replaced,
)

ROWS = 16
SEED = 2
"""Of a batch whose information is positive."""


@pytest.fixture(scope="module")
def words():
    return nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)


@pytest.fixture(scope="module")
def batch():
    return jax.tree.map(jnp.asarray, random_experience(SEED, rows=ROWS, kept=12))


def budgeted(config, budget):
    information = {"alpha": 0.0, "rho_max": 1.0, "budget": budget}
    optimizer = {"warmup_steps": 0, "learning_rate": 0.05}
    rollout = {"questions": 4, "samples": 4, "row_buckets": 1}
    return replaced(config, information=information, optimizer=optimizer, rollout=rollout)


def logits(words, params, batch):
    """Of every eighth row, at its response tokens."""
    model = nnx.merge(words[0], params)
    rows = slice(None, None, STRIDE)
    prompt, response = batch.prompt[rows], batch.response[rows]
    masks = (batch.prompt_mask[rows], batch.response_mask[rows])
    tokens = jnp.concatenate([prompt, response[:, :-1]], 1)
    mask = jnp.concatenate([masks[0], masks[1][:, :-1]], 1)
    states = model.hidden_states(tokens, mask)[:, prompt.shape[1] - 1 :]
    return states @ model.head(), masks[1]


def test_the_movement_is_the_divergence_of_the_policies(words, batch, small_config):
    config = budgeted(small_config, 1e6)
    first = fresh(words[1])
    before, mask = logits(words, first, batch)
    state, metrics = config_step(words[0], config)(config_state(fresh(first), config), batch)
    assert float(metrics["pgpo/rho"]) == 1.0
    after, _ = logits(words, state.params, batch)
    temperature = config.rollout.temperature
    # The estimator is KL(second || first).
    per_token = kl_gain_per_token(after / temperature, before / temperature)
    expected = jnp.sum(jnp.where(mask, per_token, 0)) / mask.sum(dtype=jnp.float32)
    np.testing.assert_allclose(metrics["pgpo/movement"], expected, rtol=1e-4)
    other = kl_gain_per_token(before / temperature, after / temperature)
    assert (
        abs(
            float(jnp.sum(jnp.where(mask, other, 0)) / mask.sum(dtype=jnp.float32))
            / float(expected)
            - 1
        )
        > 1e-3
    )


def test_a_step_keeps_to_its_budget(words, batch, small_config):
    free = config_step(words[0], config := budgeted(small_config, 1e6))
    _, whole = free(config_state(fresh(words[1]), config), batch)
    information, movement = (float(whole[f"pgpo/{name}"]) for name in ("information", "movement"))
    assert information > 0
    config = budgeted(small_config, 0.25 * movement / information)
    first = fresh(words[1])
    before, mask = logits(words, first, batch)
    state, metrics = config_step(words[0], config)(config_state(fresh(first), config), batch)
    np.testing.assert_allclose(metrics["pgpo/rho"], 0.5, rtol=1e-4)
    after, _ = logits(words, state.params, batch)
    temperature = config.rollout.temperature
    moved = kl_gain_per_token(after / temperature, before / temperature)
    moved = float(jnp.sum(jnp.where(mask, moved, 0)) / mask.sum(dtype=jnp.float32))
    # The divergence is quadratic in short steps, and nearly so here.
    assert 0.8 < moved / (0.25 * movement) < 1.25


def test_without_a_budget_nothing_is_measured(words, batch, small_config):
    config = replaced(small_config, rollout={"questions": 4, "samples": 4, "row_buckets": 1})
    _, metrics = config_step(words[0], config)(config_state(fresh(words[1]), config), batch)
    assert "pgpo/movement" not in metrics


def test_an_optimizer_of_ones_own_is_given_the_movement():
    own = optax.chain(optax.sgd(0.1), scale_by_information_budget(0.1))
    assert check_takes_information(own, {"w": jnp.ones(3)})


def test_the_preset():
    signal = with_information(TrainConfig(), "budget").information
    assert (signal.alpha, signal.rho_max, signal.budget) == (0.0, 1.0, 0.1)
    assert with_information(TrainConfig(), "budget").label == "pgpo"
    # Another preset replaces it.
    braked = with_information(with_information(TrainConfig(), "budget"), "brake").information
    assert (braked.alpha, braked.budget) == (30.0, None)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"alpha": 1.0}, "information.alpha must be 0.0 with information.budget, .*, got 1.0"),
        ({"rho_max": 2.0}, "information.rho_max must be 1.0 with information.budget"),
        ({"decay": 0.5}, "information.decay must be 0.0 with information.budget"),
        ({"delay": 1}, "information.delay must be 0 with information.budget"),
        ({"budget": 0.0}, "InformationConfig.budget must be positive and finite, got 0.0"),
        ({"budget": float("inf")}, "InformationConfig.budget must be positive and finite, got inf"),
    ],
)
def test_settings_that_contradict_it(changes, rule):
    config = with_information(TrainConfig(), "budget")
    with pytest.raises(ValueError, match=rule):
        replaced(config, information=changes)


def test_an_objective_without_information_is_refused():
    config = with_information(TrainConfig(), "budget")
    with pytest.raises(ValueError, match=r"information\.budget must be None with objective 'grpo'"):
        replaced(config, objective="grpo")
