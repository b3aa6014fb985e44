"""Training thin factors: what moves, what stays, and what a run keeps."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax.cli._export import main as export
from pgpo_jax.models import load_pretrained, merged
from pgpo_jax.training import (
    PRESETS,
    Checkpoints,
    LoRAConfig,
    TrainConfig,
    load_policy,
)
from pgpo_jax.training.run._run_folder import open_run_folder
from pgpo_jax.training.update._state import student_weights, teacher_weights
from tests.training.conftest import (
    config_state,
    config_step,
    fresh,
    random_experience,
    replaced,
)

LORA = {"rank": 2, "alpha": 3.0, "base_dtype": "float32"}


def start(params, config):
    return config_state(fresh(params), config)


def student(state, config):
    return merged(student_weights(state.params, state.frozen, config.lora))


def assert_same(one, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


@pytest.mark.slow
def test_steps_of_factors(small_model, small_config):
    graphdef, params = small_model
    full = replaced(small_config, loss={"support": "full"}, teacher={"rate": 0.3})
    config = replaced(full, lora=LORA)
    step = config_step(graphdef, config)
    state, wanted = start(params, config), params
    for seed in range(3):
        before = state
        if seed == 2:
            before = fresh(state)
        state, metrics = step(state, jax.tree.map(jnp.asarray, random_experience(seed)))
        now = student(state, config)
        wanted = jax.tree.map(lambda w, n: 0.7 * w + 0.3 * n, wanted, now)
    # The frozen weights are what they were; the teacher is the average of the merged students.
    assert_same(state.frozen, params, rtol=0)
    assert_same(merged(teacher_weights(state)), wanted, rtol=2e-6, atol=1e-6)
    assert float(jnp.abs(state.teacher["q_proj"].get_value()).max()) > 1e-3
    assert step.jitted._cache_size() == 1
    # The step's loss is that of the merged weights in the ordinary step.
    plain = start(student(before, config), full)._replace(teacher=merged(teacher_weights(before)))
    ordinary = config_step(graphdef, full)
    _, expected = ordinary(plain, jax.tree.map(jnp.asarray, random_experience(2)))
    for name in ("loss", "pgpo/information", "self_distillation/teacher_entropy"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=2e-5, atol=2e-6)


def test_factors_are_drawn_by_seed_and_by_no_key_of_the_trainer(small_model, small_config):
    config = replaced(small_config, lora=LORA)

    def factors(seed):
        state = config_state(fresh(small_model[1]), replaced(config, seed=seed))
        return [target["a"].get_value() for target in state.params.values()]

    ours, others = factors(0), factors(1)
    # What the trainer's keys would give: its own, and those of rollouts and evaluations.
    key = jax.random.key(0)
    for used in (key, *(jax.random.fold_in(key, purpose) for purpose in (0, 1))):
        for a in ours:
            draw = jax.random.normal(used, a.shape) * a.shape[1] ** -0.5
            assert not jnp.allclose(a, draw)
    assert not any(map(jnp.array_equal, ours, others))
    assert all(map(jnp.array_equal, ours, factors(0)))


def test_a_teacher_that_is_the_initial_model_costs_no_memory(small_model, small_config):
    for kind in ("frozen", "live", "trust_region"):
        config = replaced(small_config, lora=LORA, teacher={"kind": kind})
        state = start(small_model[1], config)
        assert state.teacher is None
        assert teacher_weights(state) is state.frozen


@pytest.mark.slow
def test_a_checkpoint_holds_what_changes(small_model, small_config, tmp_path):
    config = replaced(small_config, lora=LORA)
    state = start(small_model[1], config)
    state = state._replace(params=jax.tree.map(lambda x: x + 1, state.params))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        restored = checkpoints.restore(start(small_model[1], config))
        assert_same(restored, state, rtol=0)
        saved = checkpoints._checkpointer.checkpointables_metadata(0).metadata["state"]
        assert not any("frozen" in name or "embedding" in name for name in saved)
        other = replaced(config, lora={"rank": 3})
        with pytest.raises(
            ValueError, match=r"down_proj/a.* is \(\(2, 24, 2\), .*has \(\(2, 24, 3"
        ):
            checkpoints.restore(start(small_model[1], other))
        with pytest.raises(ValueError, match=r"has opt_state/1/0/mu/down_proj/a.*state lacks"):
            checkpoints.restore(start(small_model[1], small_config))


def test_export_merges(tmp_path):
    config = replaced(PRESETS["tiny"], lora={"rank": 2, "targets": ("q_proj",)})
    _, params = load_policy(config.model, param_dtype=config.param_dtype)
    assert params["layers"]["q_proj"].dtype == jnp.bfloat16
    state = config_state(params, config)
    state = state._replace(params=jax.tree.map(lambda x: x + 0.1, state.params))
    with (
        open_run_folder(
            tmp_path / "run", config.to_json(), steps=config.steps, resume=False
        ) as folder,
        Checkpoints(folder / "checkpoints") as checkpoints,
    ):
        checkpoints.save(state)
    assert json.loads((tmp_path / "run/config.json").read_text())["lora"]["rank"] == 2
    export([str(tmp_path / "run"), "--output", str(tmp_path / "model")])
    got = load_pretrained(tmp_path / "model").layers
    a, b = (state.params["q_proj"][name].get_value() for name in ("a", "b"))
    wanted = params["layers"]["q_proj"].get_value().astype(jnp.float32) + config.lora.scale * a @ b
    np.testing.assert_allclose(got.q_proj[...], wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(
        got.k_proj[...], params["layers"]["k_proj"].get_value().astype(jnp.float32)
    )


def test_bad_settings():
    with pytest.raises(ValueError, match="rank must be at least 1, or 0 for none, got -1"):
        LoRAConfig(rank=-1)
    with pytest.raises(ValueError, match=r"targets must be some of .*, got \('lm_head',\)"):
        LoRAConfig(rank=2, targets=("lm_head",))
    assert TrainConfig().param_dtype == "float32"
    assert TrainConfig(lora=LoRAConfig(rank=2)).param_dtype == "bfloat16"
