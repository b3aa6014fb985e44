"""Runs that differ in numbers alone share a compiled step, and each has its own numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax.training import SDPO
from pgpo_jax.training.update._shared_step import shared_step
from tests.training.conftest import (
    BagOfWords,
    config_state,
    config_step,
    fresh,
    random_experience,
    replaced,
)


class OwnSDPO(SDPO):
    """Not one of ours: it may read any of its settings."""


@pytest.fixture(scope="module")
def words():
    return nnx.split(BagOfWords(nnx.Rngs(0)), nnx.Param)


def step_of(words, config, objective=None):
    graphdef, params = words
    objective = config.make_objective() if objective is None else objective
    state = config_state(fresh(params), config)
    step = shared_step(
        graphdef,
        config.make_optimizer(),
        objective.program(),
        state,
        mesh=None,
        sequences=config.rollout.rows,
    )
    return step, state


def test_sdpo_and_pgpo_are_one_program(words, small_config):
    batch = jax.tree.map(jnp.asarray, random_experience(0))
    programs, rhos = set(), []
    for information, optimizer in (
        ({"alpha": 0.0}, {}),
        ({"alpha": 5.0, "rho_max": 1.5}, {}),
        ({"alpha": 2.0, "rho_min": 0.5, "decay": 0.9}, {"learning_rate": 3e-3}),
    ):
        config = replaced(small_config, information=information, optimizer=optimizer)
        step, state = step_of(words, config)
        state, metrics, _ = step(state, batch)
        programs.add(step.program)
        rhos.append(float(metrics["pgpo/rho"]))
    # The numbers of the last run, as where they are constants of the program.
    graphdef, params = words
    other, expected = config_step(graphdef, config)(config_state(fresh(params), config), batch)
    for name in ("pgpo/rho", "loss", "optimizer/update_norm"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5, err_msg=name)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        state.params,
        other.params,
    )
    assert len(programs) == 1
    assert step.compilations() == 1
    # The control: the numbers do make a difference.
    assert rhos[0] == 1
    assert len(set(rhos)) == 3


def test_other_programs_are_not_shared(words, small_config):
    plain = step_of(words, small_config)[0].program
    assert step_of(words, small_config)[0].program is plain
    for changes in (
        {"information": {"estimator": "kl"}},
        {"information": {"delay": 1}},
        {"information": {"target_rho": 1.2}},
        {"loss": {"modulation": "token"}},
        {"optimizer": {"warmup_steps": 3}},
        {"optimizer": {"name": "sgd"}},
        {"loss": {"k": 4}},
    ):
        assert step_of(words, replaced(small_config, **changes))[0].program is not plain, changes


def test_settings_stay_with_what_may_read_them(words, small_config):
    def programs(make, **changes):
        found = []
        for alpha in (1.0, 2.0):
            config = replaced(small_config, information={"alpha": alpha}, **changes)
            objective = make(loss=config.loss, information=config.information)
            found.append(step_of(words, config, objective)[0].program)
        return found

    assert len(set(programs(SDPO))) == 1
    # A modulated loss has alpha in it, and an objective of the user's own may have.
    assert len(set(programs(SDPO, loss={"modulation": "token"}))) == 2
    assert len(set(programs(OwnSDPO))) == 2
