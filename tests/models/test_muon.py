"""Muon on stacked kernels: each layer's matrix is orthogonalised, and nothing else is."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models import (
    LORA_TARGETS,
    Qwen3,
    Qwen3Config,
    init_lora,
    make_mesh,
    muon_dimension_numbers,
    shardings,
)

# No kernel is square: a random square matrix has singular values that five iterations leave small.
CONFIG = Qwen3Config(
    vocab_size=48,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=8,
    tie_word_embeddings=False,
)


@ft.cache
def model_params():
    return nnx.split(Qwen3(CONFIG, rngs=nnx.Rngs(0)), nnx.Param)[1]


@ft.cache
def factors():
    return init_lora(model_params(), 4, key=jax.random.key(1))


TREES = {
    "state": model_params,
    "dict": lambda: nnx.to_pure_dict(model_params()),
    "factors": factors,
}


def gradients(params):
    # Drawn by NumPy, which compiles nothing.
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)


def updates_of(optimizer, params):
    with jax.numpy_dtype_promotion("standard"):
        return jax.jit(optimizer.update)(gradients(params), optimizer.init(params), params)[0]


def by_path(tree):
    return {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}


def singular_values(tree):
    """Of each layer of each kernel, divided by Muon's factor for the shape, `[layers, side]`."""
    return {
        path: np.linalg.svd(x, compute_uv=False) / max(1.0, x.shape[-1] / x.shape[-2]) ** 0.5
        for path, x in by_path(tree).items()
        if any(name in path for name in LORA_TARGETS)
    }


@pytest.mark.parametrize(
    "tree", [x if x == "dict" else pytest.param(x, marks=pytest.mark.slow) for x in TREES]
)
def test_each_layer_of_each_kernel_is_orthogonalised(tree):
    params = TREES[tree]()
    optimizer = optax.contrib.muon(1.0, muon_weight_dimension_numbers=muon_dimension_numbers)
    values = singular_values(updates_of(optimizer, params))
    assert len(values) == (2 if tree == "factors" else 1) * len(LORA_TARGETS)
    # Five Newton-Schulz iterations bring singular values near 1, not to 1.
    for path, value in values.items():
        assert value.min() > 0.5, path
        assert value.max() < 1.25, path


@pytest.mark.slow
@pytest.mark.parametrize("tree", TREES)
def test_without_dimension_numbers_no_kernel_is_orthogonalised(tree):
    values = singular_values(updates_of(optax.contrib.muon(1.0), TREES[tree]()))
    assert all(value.max() > 2.0 for value in values.values())


@pytest.mark.slow
def test_a_layer_gets_what_muon_gives_the_matrix_alone():
    params = model_params()
    optimizer = optax.contrib.muon(0.1, muon_weight_dimension_numbers=muon_dimension_numbers)
    got, gradient = updates_of(optimizer, params)["layers"], gradients(params)["layers"]
    alone = optax.contrib.muon(0.1)
    update = jax.jit(lambda gradient, matrix: alone.update(gradient, alone.init(matrix), matrix)[0])
    for name in LORA_TARGETS:
        kernel = np.asarray(params["layers"][name].get_value())
        for layer in range(CONFIG.num_hidden_layers):
            matrix = kernel[layer]
            with jax.numpy_dtype_promotion("standard"):
                wanted = update(gradient[name].get_value()[layer], matrix)
            np.testing.assert_allclose(got[name].get_value()[layer], wanted, atol=1e-5)


@pytest.mark.slow
def test_embedding_head_and_norms_are_updated_by_adam():
    params = model_params()
    optimizer = optax.contrib.muon(0.1, muon_weight_dimension_numbers=muon_dimension_numbers)
    got = by_path(updates_of(optimizer, params))
    wanted = by_path(updates_of(optax.nadamw(0.1, weight_decay=0.0), params))
    others = [path for path in got if not any(name in path for name in LORA_TARGETS)]
    assert len(others) == 7
    for path in others:
        np.testing.assert_allclose(got[path], wanted[path], atol=1e-6, err_msg=path)
    # Without the numbers optax orthogonalises them, as matrices of layers or of words.
    plain = by_path(updates_of(optax.contrib.muon(0.1), params))
    assert all(
        np.abs(plain[path] - wanted[path]).max() > 0.01 for path in others if plain[path].ndim == 2
    )


@pytest.mark.slow
def test_on_a_mesh_the_update_is_the_same():
    params = model_params()
    optimizer = optax.contrib.muon(0.1, muon_weight_dimension_numbers=muon_dimension_numbers)
    mesh = make_mesh(fsdp=2, devices=jax.devices()[:2])
    spread = jax.device_put(params, shardings(params, mesh))
    assert not spread["layers"]["up_proj"].get_value().sharding.is_fully_replicated
    wanted, got = by_path(updates_of(optimizer, params)), by_path(updates_of(optimizer, spread))
    for path, value in wanted.items():
        np.testing.assert_allclose(got[path], value, atol=1e-5, err_msg=path)


def test_a_tree_without_kernels_is_refused():
    tree = {"table": jnp.ones((4, 3)), "q_proj": {"bias": jnp.ones(3)}}
    with pytest.raises(PGPOValueError, match="needs a tree with kernels"):
        muon_dimension_numbers(tree)
    kernel = {"table": jnp.ones((4, 3)), "q_proj": {"kernel": jnp.ones((4, 3))}}
    assert muon_dimension_numbers(kernel)["q_proj"]["kernel"] is not None
