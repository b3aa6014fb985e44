"""What holds for every family of the decoder: files, biases on a mesh, LoRA, `pgpo plan`."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from pgpo_jax.models import (
    DecoderConfig,
    abstract_params,
    init_lora,
    load_pretrained,
    make_mesh,
    merged,
    muon_dimension_numbers,
    sample,
    save_pretrained,
    shardings,
    with_lora,
)
from pgpo_jax.training import PRESETS
from pgpo_jax.training.memory._estimate import memory_plan

GOLDEN = Path(__file__).parent / "golden"
CASES = ["llama_tied", "llama3_rope_untied", "qwen2_biases", "mistral_wide_heads"]


@pytest.fixture(scope="module")
def biased(build, tiny_config):
    return build(dataclasses.replace(tiny_config, model_type="qwen2"))


@pytest.mark.parametrize("case", CASES)
def test_a_folder_that_is_read_and_written_is_the_same_again(case, tmp_path):
    model = load_pretrained(GOLDEN / case)
    save_pretrained(model, tmp_path)
    theirs, ours = (
        json.loads((folder / "config.json").read_text()) for folder in (GOLDEN / case, tmp_path)
    )
    for key in ("model_type", "architectures", "tie_word_embeddings"):
        assert ours[key] == theirs[key]
    again = load_pretrained(tmp_path)
    assert again.config == model.config
    (_, one), (_, two) = (nnx.split(m, nnx.Param) for m in (model, again))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    assert all(map(jnp.array_equal, jax.tree.leaves(one), jax.tree.leaves(two)))


def test_weights_of_another_family_do_not_fit(biased, tmp_path):
    save_pretrained(biased, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"model_type": "llama"}))
    with pytest.raises(ValueError, match=r"unexpected model.layers.0.self_attn.[qkv]_proj.bias"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(values | {"model_type": "qwen3"}))
    with pytest.raises(ValueError, match=r"missing model.layers.0.self_attn.q_norm.weight"):
        load_pretrained(tmp_path)


def test_biases_are_cut_as_the_heads_that_they_belong_to(biased, tmp_path):
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    layers = shardings(biased.config, mesh)["layers"]
    for name in ("q_bias", "k_bias", "v_bias"):
        assert layers[name].get_value().spec == P(None, "tensor")
    save_pretrained(biased, tmp_path)
    weight = load_pretrained(tmp_path, mesh=mesh).layers.k_bias[...]
    assert weight.addressable_shards[0].data.shape == (2, weight.shape[1] // 2)
    np.testing.assert_array_equal(weight, biased.layers.k_bias[...])


def test_muon_leaves_biases_to_adam(biased):
    numbers = muon_dimension_numbers(nnx.split(biased, nnx.Param)[1])["layers"]
    assert numbers["q_bias"].get_value() is None
    assert numbers["q_proj"].get_value() is not None


@pytest.mark.slow
def test_a_mesh_computes_what_one_device_does(biased, prompts, tmp_path):
    save_pretrained(biased, tmp_path)
    spread = load_pretrained(tmp_path, mesh=make_mesh(data=2, fsdp=2, tensor=2))
    run = nnx.jit(lambda model, tokens, mask: model(tokens, mask))
    np.testing.assert_allclose(run(spread, *prompts), run(biased, *prompts), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 4])
def test_the_sampler_adds_the_biases_and_lora(biased, prompts, key, rows):
    """The greedy tokens are those of the whole forward pass, with factors on every kernel."""
    graphdef, params = nnx.split(biased, nnx.Param)
    rng = np.random.default_rng(3)
    factors = jax.tree.map(
        lambda x: x + jnp.asarray(0.2 * rng.standard_normal(x.shape), x.dtype),
        init_lora(params, 3, key=key),
    )
    tokens, mask = (x[:rows] for x in prompts)
    adapted = nnx.merge(graphdef, with_lora(params, factors, 1.5))
    whole = nnx.merge(graphdef, merged(with_lora(params, factors, 1.5)))
    end = biased.config.vocab_size - 1
    out = sample(
        adapted, tokens, mask, key, max_new_tokens=6, temperature=0.0, eos_id=end, pad_id=0
    )
    run = nnx.jit(lambda model, tokens, mask: model(tokens, mask))
    read = jnp.concatenate([tokens, out.tokens], axis=1)
    seen = jnp.concatenate([mask, out.mask], axis=1)
    expected = jnp.argmax(run(whole, read, seen)[:, tokens.shape[1] - 1 : -1], axis=-1)
    np.testing.assert_array_equal(out.tokens[out.mask], expected[out.mask])
    # The control: without the biases it would say something else.
    whole.layers.v_bias[...] = jnp.zeros_like(whole.layers.v_bias[...])
    other = jnp.argmax(run(whole, read, seen)[:, tokens.shape[1] - 1 : -1], axis=-1)
    assert bool(jnp.any(other[out.mask] != out.tokens[out.mask]))


def test_a_plan_counts_what_the_family_has(tiny_config):
    def trained(model_type):
        shape = dataclasses.replace(tiny_config, model_type=model_type)
        plan = memory_plan(PRESETS["tiny"], shape, compiled=False)
        leaves = jax.tree.leaves(abstract_params(shape))
        assert plan.resident["trained weights"] == 4 * sum(leaf.size for leaf in leaves)
        return plan.resident["trained weights"] // 4

    heads, keys, width, layers = 4, 2, 8, 2
    assert trained("llama") == trained("mistral")
    assert trained("qwen3") - trained("llama") == layers * 2 * width
    assert trained("qwen2") - trained("llama") == layers * (heads + 2 * keys) * width


def test_the_former_names_are_the_same_classes():
    from pgpo_jax.models import Decoder, Qwen3, Qwen3Config

    assert Qwen3 is Decoder
    assert Qwen3Config is DecoderConfig
