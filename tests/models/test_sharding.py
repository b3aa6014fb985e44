import dataclasses
import gc
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from pgpo_jax.models import (
    SHARDING_RULES,
    load_pretrained,
    make_mesh,
    partition_spec,
    sample,
    save_pretrained,
    shardings,
)
from pgpo_jax.models._cache import Cache


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(data=2, fsdp=2, tensor=2)


def test_specs_match_the_parameters(tiny_model, tiny_config, mesh):
    params = nnx.split(tiny_model, nnx.Param)[1]
    for source in (tiny_config, params):
        places = shardings(source, mesh)
        assert jax.tree.structure(places) == jax.tree.structure(params)
        assert places["layers"]["q_proj"].get_value().spec == P(None, "fsdp", "tensor")
        assert places["layers"]["o_proj"].get_value().spec == P(None, ("tensor", "fsdp"), None)
        assert places["embedding"].get_value().spec == P("tensor", "fsdp")
        assert places["final_norm"].get_value().spec == P(None)
    assert partition_spec(("batch", "length"), mesh) == P(("data", "fsdp"), None)
    with pytest.raises(ValueError, match="'bach' is not a logical axis; known are batch"):
        partition_spec(("bach",), mesh)


def test_every_weight_is_named_by_the_rules(tiny_model):
    for param in jax.tree.leaves(
        nnx.split(tiny_model, nnx.Param)[1], is_leaf=lambda x: isinstance(x, nnx.Variable)
    ):
        assert len(param.axes) == param.ndim
        assert set(param.axes) <= SHARDING_RULES.keys()


@pytest.mark.slow
def test_eight_devices_compute_what_one_does(build, tiny_config, prompts, mesh, tmp_path):
    tokens, mask = prompts
    alone = build(dataclasses.replace(tiny_config, tie_word_embeddings=False))
    save_pretrained(alone, tmp_path)
    spread = load_pretrained(tmp_path, mesh=mesh)
    for name, whole in (("q_proj", 4), ("down_proj", 4)):
        weight = getattr(spread.layers, name)[...]
        assert weight.addressable_shards[0].data.size * whole == weight.size

    @jax.jit(static_argnums=0)
    def loss(graphdef, params):
        def f(params):
            logprobs = jax.nn.log_softmax(nnx.merge(graphdef, params)(tokens, mask))
            return jnp.mean(jnp.where(mask, logprobs[..., 3], 0.0))

        return jax.value_and_grad(f)(params)

    (one, ones), (many, manys) = (loss(*nnx.split(model, nnx.Param)) for model in (alone, spread))
    np.testing.assert_allclose(one, many, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(ones), jax.tree.leaves(manys), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.slow
def test_sampling_on_eight_devices(
    build, tiny_config, prompts, mesh, tmp_path, key, capfd, monkeypatch
):
    grown, shares = Cache.grown, []

    def record(*arguments):
        cache = grown(*arguments)
        arrays = cache.keys + cache.values
        shares.append({x.addressable_shards[0].data.size / x.size for x in arrays})
        return cache

    monkeypatch.setattr(Cache, "grown", record)
    alone = build(tiny_config)
    save_pretrained(alone, tmp_path)
    spread = load_pretrained(tmp_path, mesh=mesh)
    one, many = (
        sample(model, *prompts, key, max_new_tokens=6, eos_id=5, pad_id=0, samples_per_prompt=2)
        for model in (alone, spread)
    )
    np.testing.assert_array_equal(one.tokens, many.tokens)
    np.testing.assert_allclose(one.logprobs, many.logprobs, atol=2e-5)
    for rows in many:
        assert rows.sharding.spec == P(("data", "fsdp"))
    # One device's first and the mesh's first, which has no earlier one to be laid out like.
    assert shares == [{1}, {1 / 8}]
    # Nothing was gathered on every device to be cut anew.
    assert "rematerialization" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(2, 2, 2), pytest.param((1, 4, 2), marks=pytest.mark.slow)])
def test_loading_holds_the_model_once(build, tiny_config, tmp_path, sizes):
    config = dataclasses.replace(tiny_config, num_hidden_layers=6, vocab_size=4096, hidden_size=64)
    save_pretrained(build(config), tmp_path)
    mesh = make_mesh(*sizes)
    load_pretrained(tmp_path, mesh=mesh)  # Imports and caches are not what is measured.
    gc.collect()
    tracemalloc.start()
    try:
        # NumPy's and so all staging memory is traced; on CPU devices some of the shards, too.
        params = nnx.split(load_pretrained(tmp_path, mesh=mesh), nnx.Param)[1]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    leaves = jax.tree.leaves(params)
    held = sum(shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards)
    part = max(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
    # The copies of a cut weight on all devices, one part in the making, and small change.
    assert peak < held + part + 300_000
    # Negative control: the bound would not hold for a second copy of the largest weight.
    assert max(leaf.nbytes for leaf in leaves) > part + 300_000


@pytest.mark.parametrize(
    ("sizes", "changes", "match"),
    [
        ((1, 1, 8), {}, "'tensor' of size 8 must divide num_attention_heads, got 4"),
        ((2, 1, 4), {}, "'tensor' of size 4 must divide num_key_value_heads, got 2"),
        ((4, 1, 2), {"vocab_size": 31}, "'tensor' of size 2 must divide vocab_size, got 31"),
        ((1, 8, 1), {"hidden_size": 20}, "'fsdp' of size 8 must divide hidden_size, got 20"),
    ],
)
def test_a_mesh_that_does_not_divide(build, tiny_config, sizes, changes, match):
    config = dataclasses.replace(tiny_config, **changes)
    mesh = make_mesh(*sizes)
    with pytest.raises(ValueError, match=match):
        build(config, mesh=mesh)
    with pytest.raises(ValueError, match=match):
        shardings(config, mesh)


def test_bad_meshes(build, tiny_config, tiny_model, prompts, mesh):
    with pytest.raises(ValueError, match="2 x 2 x 1 needs 4 devices, got 8"):
        make_mesh(2, 2, 1)
    with pytest.raises(ValueError, match="at least 1"):
        make_mesh(0)
    with pytest.raises(ValueError, match="must be among"):
        build(tiny_config, mesh=jax.make_mesh((8,), ("x",), (jax.sharding.AxisType.Auto,)))
    with pytest.raises(ValueError, match=r"AxisType\.Auto"):
        build(tiny_config, mesh=jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Explicit,)))
    tokens, mask = prompts
    with pytest.raises(ValueError, match="batch of 3 must divide over the mesh: data x fsdp = 4"):
        jax.eval_shape(build(tiny_config, mesh=mesh), tokens[:3], mask[:3])


def test_a_torus_whose_sides_do_not_fit_is_shared(monkeypatch):
    """As 32 x 2 of TPU v6e:8x8, which `jax.make_mesh` refuses."""
    whole = make_mesh(1, 4, 2)

    def refuse(*arguments, **settings):
        raise NotImplementedError("Failed to find assignment for logical_axis_index 2 of size 2")

    monkeypatch.setattr(jax, "make_mesh", refuse)
    shared = make_mesh(1, 4, 2)
    assert (shared.shape, shared.axis_types) == (whole.shape, whole.axis_types)
    assert {d.id for d in shared.devices.flat} == {d.id for d in whole.devices.flat}
    # The control: sizes that are not the devices are refused before.
    with pytest.raises(ValueError, match="needs 4 devices, got 8"):
        make_mesh(1, 2, 2)
