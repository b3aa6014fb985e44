"""Adapted kernels in an unchanged model, and the moving average of what they add."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from pgpo_jax.models import (
    LORA_TARGETS,
    averaged_deltas,
    init_lora,
    make_mesh,
    merged,
    sample,
    shardings,
    with_deltas,
    with_lora,
    zero_deltas,
)
from pgpo_jax.models._lora import LowRank, Shifted
from pgpo_jax.models._sample import row_keys

SCALE = 1.5


@pytest.fixture(scope="module")
def parts(build, tiny_config):
    """Structure, frozen weights and factors, none of which is zero."""
    graphdef, params = nnx.split(build(tiny_config), nnx.Param)
    factors = init_lora(params, 3, key=jax.random.key(1))
    return graphdef, params, moved(factors, 2)


def moved(factors, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: x + jnp.asarray(0.2 * rng.standard_normal(x.shape), x.dtype), factors
    )


@pytest.fixture(scope="module")
def weights(parts):
    """The frozen weights, adapted in three ways that are one."""
    _, params, factors = parts
    adapted = with_lora(params, factors, SCALE)
    shifted = with_deltas(params, averaged_deltas(zero_deltas(params, factors), factors, SCALE, 1))
    return {"none": params, "lora": adapted, "delta": shifted, "merged": merged(adapted)}


@pytest.mark.slow
def test_the_model_sees_the_merged_weights(parts, weights, prompts):
    run = jax.jit(lambda g, p: nnx.merge(g, p)(*prompts), static_argnums=0)
    logits = {name: run(parts[0], tree) for name, tree in weights.items()}
    for name in ("lora", "delta"):
        np.testing.assert_allclose(logits[name], logits["merged"], atol=2e-4)
    # Negative control: the addition is no trifle.
    assert np.abs(logits["none"] - logits["merged"]).max() > 0.1
    assert merged(weights["none"])["layers"]["q_proj"] is not weights["lora"]["layers"]["q_proj"]


@pytest.mark.slow
def test_the_sampler_sees_the_merged_weights(parts, weights, prompts, key):
    def draw(tree, prompts, key):
        return sample(
            nnx.merge(parts[0], tree), *prompts, key, max_new_tokens=5, eos_id=5, pad_id=0
        )

    lora, whole = (draw(weights[name], prompts, key) for name in ("lora", "merged"))
    np.testing.assert_array_equal(lora.tokens, whole.tokens)
    np.testing.assert_allclose(lora.logprobs, whole.logprobs, atol=2e-4)
    # A row alone is decoded with its kernels in halves, but for the adapted ones.
    first = row_keys(key, np.zeros(1, np.uint32))
    row = draw(weights["lora"], [x[:1] for x in prompts], first)
    np.testing.assert_array_equal(row.tokens, lora.tokens[:1])
    # Negative control: without the addition other tokens are drawn.
    assert not np.array_equal(draw(weights["none"], prompts, key).tokens, lora.tokens)


def test_accelerators_are_told_to_multiply_in_float32(parts):
    _, params, factors = parts

    def average(params, factors):
        return averaged_deltas(zero_deltas(params, factors), factors, SCALE, 0.3)

    def merge(params, factors):
        return merged(with_lora(params, factors, SCALE))

    for work in (average, merge):
        program = jax.jit(work).lower(params, factors)
        products = [line for line in program.as_text().splitlines() if "dot_general" in line]
        assert len(products) == len(LORA_TARGETS)
        assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
    # Negative control: what is not asked for is not done.
    kernel = with_lora(params, factors, SCALE)["layers"]["q_proj"].get_value()[0]
    assert "HIGHEST" not in jax.jit(lambda x: x @ kernel).lower(jnp.ones((1, 16))).as_text()


def test_fresh_factors_change_nothing(parts):
    params = parts[1]
    fresh = init_lora(params, 3, ["q_proj", "down_proj"], key=jax.random.key(0))
    assert set(fresh) == {"q_proj", "down_proj"}
    same = jax.tree.map(np.array_equal, merged(with_lora(params, fresh, SCALE)), params)
    assert all(jax.tree.leaves(same))


def test_the_average_of_additions_is_the_average_of_merged_weights(parts):
    _, params, factors = parts
    deltas = zero_deltas(params, factors)
    wanted = {name: params["layers"][name].get_value() for name in LORA_TARGETS}
    mean = factors
    step = jax.jit(lambda d, f: averaged_deltas(d, f, SCALE, 0.3))
    for seed in range(4):
        factors = moved(factors, seed)
        deltas = step(deltas, factors)
        now = merged(with_lora(params, factors, SCALE))["layers"]
        wanted = {n: 0.7 * wanted[n] + 0.3 * now[n].get_value() for n in LORA_TARGETS}
        mean = jax.tree.map(lambda m, f: 0.7 * m + 0.3 * f, mean, factors)
    got = merged(with_deltas(params, deltas))["layers"]
    product = merged(with_lora(params, mean, SCALE))["layers"]
    for name in LORA_TARGETS:
        np.testing.assert_allclose(got[name].get_value(), wanted[name], rtol=2e-6, atol=2e-6)
        # Negative control: the product of averaged factors is something else.
        assert np.abs(product[name].get_value() - wanted[name]).max() > 0.01


def test_a_small_addition_survives_bfloat16():
    """Added to a bfloat16 kernel first, it would be rounded away to the last bit."""
    base = jnp.ones((4, 4), jnp.bfloat16)
    x = jnp.full((1, 4), 0.25, jnp.bfloat16)
    small = jnp.full((4, 4), 1e-3, jnp.float32)
    shifted = Shifted(base, small).astype(jnp.bfloat16)
    thin = LowRank(base, small[:, :1], jnp.ones((1, 4))).astype(jnp.bfloat16)
    assert (shifted.merged().astype(jnp.bfloat16) == base).all()
    for kernel in (shifted, thin):
        addition = (kernel.addition() + 0).astype(jnp.float32)
        np.testing.assert_allclose(addition, small, rtol=1e-2)
        assert (x @ kernel).dtype == jnp.bfloat16


def test_factors_lie_where_their_kernels_do(parts):
    _, params, _ = parts
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    placed = jax.device_put(params, shardings(params, mesh))
    factors = init_lora(placed, 2, ["q_proj", "o_proj"], key=jax.random.key(0), mesh=mesh)
    specs = jax.tree.map(lambda x: x.sharding.spec, factors)
    assert specs["q_proj"]["a"].get_value() == P(None, "fsdp", None)
    assert specs["q_proj"]["b"].get_value() == P(None, None, "tensor")
    assert specs["o_proj"]["a"].get_value() == P(None, ("tensor", "fsdp"), None)
    for name, delta in zero_deltas(placed, factors).items():
        assert delta.get_value().sharding == placed["layers"][name].get_value().sharding


@pytest.mark.parametrize(
    ("rank", "targets", "rule"),
    [
        (0, LORA_TARGETS, "rank of LoRA must be at least 1, got 0"),
        (17, LORA_TARGETS, "rank of LoRA must be at most 16, the smaller side of q_proj, got 17"),
        (2, ["q_proj", "query"], "targets of LoRA must be .*, got 'query'"),
        (2, [], "targets of LoRA must be .*, got none"),
    ],
)
def test_refusals(parts, rank, targets, rule):
    with pytest.raises(ValueError, match=rule):
        init_lora(parts[1], rank, targets, key=jax.random.key(0))
