"""What a decoding step reads on a mesh: every weight whole over "fsdp", ahead of the loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax.models import _cache, _step_weights, make_mesh, sample
from pgpo_jax.training import PRESETS
from pgpo_jax.training.target._hlo import ProgramText
from pgpo_jax.training.target._programs import sampler_programs
from tests.training.conftest import SMALL_QWEN3, replaced


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [None, 8])
def test_no_weight_is_gathered_by_the_decoding_loop(monkeypatch, lanes):
    config = replaced(
        PRESETS["tiny"],
        rollout={"questions": 8, "samples": 2, "max_prompt": 8, "max_response": 16},
    )
    config = replaced(config, rollout={"max_num_seqs": lanes})
    shape = dataclasses.replace(SMALL_QWEN3, hidden_size=64, intermediate_size=128)
    mesh = make_mesh(fsdp=4, tensor=2)

    def gathered(name):
        programs = dict(sampler_programs(config, shape, mesh))
        held = {None: 16, 8: 8}[lanes] // 4
        assert f"f32[{held},1,8,15]" in programs["decode"].as_text()
        found = ProgramText(programs[name].as_text()).collectives()
        return sum(one.bytes for one in found if one.kind == "all-gather")

    kernel = shape.hidden_size * shape.intermediate_size * 4 // 2
    # Tokens are, their rows' numbers, but not one kernel.
    assert gathered("decode") < kernel / 4
    # The weights are gathered once, by the prefill.
    assert gathered("prefill") > 3 * shape.num_hidden_layers * kernel
    # The control: weights that are left as they lie.
    monkeypatch.setattr(_step_weights, "_whole", lambda weight, axes, mesh: weight)
    jax.clear_caches()
    assert gathered("decode") > kernel


def test_slots_fill_whole_tiles_on_accelerators_only(monkeypatch):
    def slots(platform, prefix, asked):
        monkeypatch.setattr(_cache, "target_platform", lambda mesh: platform)
        cache = _cache.Cache((), (), jnp.zeros((2, prefix), jnp.bool_))
        return cache.even_slots(asked, None)

    assert [slots("cpu", 5, n) for n in (1, 64, 8191)] == [1, 64, 8191]
    for platform in ("tpu", "gpu"):
        assert [slots(platform, 0, n) for n in (1, 64, 128, 8191)] == [128, 128, 128, 8192]
        # Prompts of one row each lie in the same arrays.
        assert [5 + slots(platform, 5, n) for n in (1, 123, 124)] == [128, 128, 256]


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 2])
def test_more_slots_than_tokens_change_nothing(tiny_model, prompts, key, monkeypatch, samples):
    def drawn():
        settings = {"max_new_tokens": 6, "eos_id": 31, "pad_id": 0}
        return sample(tiny_model, *prompts, key, samples_per_prompt=samples, **settings)

    def rounded(self, slots, mesh):
        return slots + -(self.prefix.shape[1] + slots) % 128

    alone = drawn()
    monkeypatch.setattr(_cache.Cache, "even_slots", rounded)
    jax.clear_caches()
    rows = drawn()
    np.testing.assert_array_equal(alone.tokens, rows.tokens)
    np.testing.assert_array_equal(alone.mask, rows.mask)
    # Rounding of float32: a softmax over more slots adds up in another order.
    np.testing.assert_allclose(alone.logprobs, rows.logprobs, atol=2e-5)
    assert alone.mask.sum() > 6
    # The control: slots that hold no token yet are read, too.
    only_written = _cache.Cache.filled
    monkeypatch.setattr(
        _cache.Cache, "filled", lambda self, _: only_written(self, jnp.int32(self.slots))
    )
    jax.clear_caches()
    assert np.abs(alone.logprobs[:, 1] - drawn().logprobs[:, 1]).max() > 1e-3


def test_inputs_that_the_mesh_does_not_divide(build, tiny_config):
    config = dataclasses.replace(tiny_config, intermediate_size=20, hidden_size=16)
    with pytest.raises(ValueError, match="'tensor' x 'fsdp' of size 8 must divide intermediate_"):
        build(config, mesh=make_mesh(1, 8, 1))
