"""A step in micro-batches is the step of the whole batch: loss, gradient, I_k and rho."""

import contextlib
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from pgpo_jax import scale_by_information
from pgpo_jax.models import Qwen3, shardings
from pgpo_jax.training import (
    SDPO,
    MeshConfig,
    OptimizerConfig,
    RolloutConfig,
    TrainConfig,
    make_mesh,
)
from pgpo_jax.training.devices._mesh import shard_rows
from pgpo_jax.training.update import _accumulate
from pgpo_jax.training.update._accumulate import accumulated_gradient
from tests.training.conftest import (
    SMALL_QWEN3,
    BagOfWords,
    config_state,
    config_step,
    fresh,
    random_experience,
    replaced,
)

# The update is -rho * gradient, so that the weights tell of both.
DESCENT = optax.chain(optax.sgd(1.0), scale_by_information(5.0))


class Loss(NamedTuple):
    loss: jax.Array


def one_step(model, config, batch=None, micro_batch=None):
    graphdef, params = model
    config = replaced(config, optimizer={"micro_batch": micro_batch})
    state = config_state(fresh(params), config, DESCENT)
    state = state._replace(teacher=jax.tree.map(lambda p: 1.5 * p, state.teacher))
    # Rows of very different lengths, one without a signal: means of means would show.
    batch = random_experience(rows=6, kept=5) if batch is None else batch
    step = config_step(graphdef, config, DESCENT)
    return step(state, jax.tree.map(jnp.asarray, batch))


def assert_same(one, other):
    (state, metrics), (state2, metrics2) = one, other
    assert metrics.keys() == metrics2.keys()
    for name in metrics:
        np.testing.assert_allclose(metrics[name], metrics2[name], rtol=2e-5, atol=2e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=3e-6),
        state.params,
        state2.params,
    )


@pytest.mark.parametrize(
    "mode",
    [
        "token_mean",
        pytest.param("sequence_mean", marks=pytest.mark.slow),
        pytest.param("sequence_sum", marks=pytest.mark.slow),
    ],
)
def test_micro_batches_are_the_batch(small_config, mode, monkeypatch):
    model = nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)
    config = replaced(
        small_config,
        loss={"reduction": mode, "support": "full"},
        information={"reduction": mode},
    )
    whole = one_step(model, config)
    assert_same(whole, one_step(model, config, micro_batch=2))
    assert 0.01 < abs(float(whole[1]["pgpo/rho"]) - 1) < 0.99  # in use, and not at the cap
    # Negative control: with each micro-batch's own denominator it is another step.
    monkeypatch.setattr(SDPO, "denominators", lambda *_: {})
    with pytest.raises(AssertionError):
        assert_same(whole, one_step(model, config, micro_batch=2))


@pytest.mark.slow
def test_a_contrast_of_classes_is_that_of_the_batch(small_config):
    """Rows are right and wrong unevenly, so that the contrasts of the micro-batches differ."""
    model = nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)
    batch = random_experience(rows=6, kept=5)._replace(
        score=np.array([1, 0, 0, 1, 0, 1], np.float32)
    )
    config = replaced(
        small_config, loss={"support": "full"}, information={"estimator": "outcome_contrast"}
    )
    whole = one_step(model, config, batch)
    assert_same(whole, one_step(model, config, batch, micro_batch=2))
    signed = one_step(model, replaced(config, information={"estimator": "outcome"}), batch)
    metrics = [m["pgpo/signal"] for m in (whole[1], signed[1])]
    assert abs(float(metrics[0] - metrics[1])) > 1e-3  # and not the signal that is pooled


@pytest.mark.slow
def test_micro_batches_on_a_mesh(small_model, small_config):
    params = small_model[1]
    batch = random_experience()
    # The weights of a sequence and the grades stay with their rows, too.
    alone = replaced(
        small_config,
        loss={"support": "full", "modulation": "sequence"},
        information={"estimator": "outcome_contrast"},
    )
    config = replaced(alone, optimizer={"micro_batch": 4}, mesh=MeshConfig(data=2, fsdp=2))
    mesh = make_mesh(config.mesh)
    spread, _ = nnx.split(
        nnx.eval_shape(lambda: Qwen3(SMALL_QWEN3, rngs=nnx.Rngs(0), mesh=mesh)), nnx.Param
    )
    placed = jax.device_put(fresh(params), shardings(params, mesh))
    state = config_state(placed, config, DESCENT, mesh)
    state = state._replace(teacher=jax.tree.map(lambda p: 1.5 * p, state.teacher))
    layout = jax.tree.map(lambda x: x.sharding, state)
    step = config_step(spread, config, DESCENT, layout=layout).jitted
    compiled = step.lower(state, shard_rows(batch, mesh)).compile()
    # The rows are not moved between devices: tokens are never exchanged.
    assert not any(
        "s32[" in line and op in line
        for line in compiled.as_text().splitlines()
        for op in (" all-to-all(", " collective-permute(")
    )
    many = compiled(state, shard_rows(batch, mesh))[:2]
    single = one_step(small_model, alone, batch)
    assert_same(single, many)
    assert abs(float(single[1]["pgpo/weight"]) - 1) > 0.01


def test_micro_batches_that_do_not_divide_are_refused(small_model, small_config):
    rollout = RolloutConfig(questions=4, samples=3, row_buckets=2)
    with pytest.raises(ValueError, match=r"micro_batch must divide rollout\..* = 6, got 4"):
        TrainConfig(rollout=rollout, optimizer=OptimizerConfig(micro_batch=4))
    with pytest.raises(ValueError, match=r"micro_batch must be divisible by .* = 2, got 3"):
        TrainConfig(
            rollout=rollout, optimizer=OptimizerConfig(micro_batch=3), mesh=MeshConfig(data=2)
        )
    with pytest.raises(ValueError, match=r"micro_batch must be positive, got 0"):
        OptimizerConfig(micro_batch=0)
    # Where only the arrays tell: a batch of six rows for a configuration of eight.
    with pytest.raises(ValueError, match="micro-batch of 4 rows must divide the 6 of a batch"):
        one_step(small_model, small_config, micro_batch=4)


def remat_model():
    model = Qwen3(SMALL_QWEN3, rngs=nnx.Rngs(0), remat="nothing_saveable")
    return nnx.split(model, nnx.Param)


def test_a_sum_in_place_is_the_sum(small_config):
    config = replaced(small_config, loss={"support": "full"})
    model = remat_model()
    summed = one_step(model, config, micro_batch=2)
    assert_same(one_step(model, config), summed)
    # The control: micro-batches of which the second is left out are another step.
    half = random_experience(rows=6, kept=5)
    half = half._replace(sequence_mask=half.sequence_mask & (np.arange(6) < 4))
    with pytest.raises(AssertionError):
        assert_same(one_step(model, config, half), summed)


def test_a_sum_in_place_holds_one_gradient_of_the_layers():
    """The compiled step's temporaries, of many layers, with and without."""
    shape = dataclasses.replace(SMALL_QWEN3, num_hidden_layers=16, intermediate_size=512)
    model = nnx.eval_shape(lambda: Qwen3(shape, rngs=nnx.Rngs(0), remat="nothing_saveable"))
    graphdef, params = nnx.split(model, nnx.Param)
    batch = jax.tree.map(jnp.asarray, random_experience(rows=4, kept=4))

    def temporaries(in_place):
        def loss_of(params, rows):
            states = nnx.merge(graphdef, params).hidden_states(rows.prompt, rows.prompt_mask)
            return Loss(jnp.sum(states**2))

        def summed(params):
            return accumulated_gradient(loss_of, params, batch, 1, in_place=in_place)[0]

        return jax.jit(summed).lower(params).compile().memory_analysis().temp_size_in_bytes

    kernels = 16 * 3 * shape.hidden_size * shape.intermediate_size * 4
    assert temporaries(False) - temporaries(True) > 0.9 * kernels


def test_an_objective_that_passes_twice_is_summed_apart(small_config, monkeypatch):
    """Added to the running sum in each pass, the sum would count twice."""

    def twice(self, models, batch, denominators):
        one, two = (of_rows(self, models, batch, denominators) for _ in range(2))
        return one._replace(loss=one.loss + two.loss)

    of_rows = SDPO.loss_of_rows
    monkeypatch.setattr(SDPO, "loss_of_rows", twice)
    config = replaced(small_config, loss={"support": "full"})
    model = remat_model()
    whole = one_step(model, config)
    monkeypatch.setattr(SDPO, "one_pass", False)
    assert_same(whole, one_step(model, config, micro_batch=2))
    # Said to pass once, it is refused before it trains anything wrong.
    monkeypatch.setattr(SDPO, "one_pass", True)
    with pytest.raises(RuntimeError, match="once, this one did 2 times: let its one_pass return"):
        one_step(model, config, micro_batch=2)
    # The control: without that check it is another step.
    monkeypatch.setattr(_accumulate, "one_pass_only", contextlib.nullcontext)
    with pytest.raises(AssertionError):
        assert_same(whole, one_step(model, config, micro_batch=2))
