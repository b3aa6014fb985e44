import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax.models import Qwen3, _decoder, _layers
from pgpo_jax.models._layers import attend, attend_in_chunks, to_even_lengths


@pytest.fixture(scope="module")
def run():
    return nnx.jit(lambda model, tokens, mask: model(tokens, mask))


def test_padding_side_does_not_matter(tiny_model, prompts, run):
    tokens, mask = prompts
    left = run(tiny_model, tokens, mask)
    for row, length in enumerate(np.asarray(mask.sum(axis=1))):
        turned = jnp.roll(tokens[row], length)[None], jnp.roll(mask[row], length)[None]
        right = run(tiny_model, *turned)[0, :length]
        np.testing.assert_allclose(left[row, 6 - length :], right, atol=2e-6)


def test_padding_does_not_leak(tiny_model, prompts, run):
    tokens, mask = prompts
    other = jnp.where(mask, tokens, 7)
    assert not jnp.array_equal(other, tokens)
    one, two = run(tiny_model, tokens, mask), run(tiny_model, other, mask)
    np.testing.assert_array_equal(one[mask], two[mask])
    # The control: without the mask the same change is seen.
    everything = jnp.ones_like(mask)
    one, two = run(tiny_model, tokens, everything), run(tiny_model, other, everything)
    assert jnp.abs(one - two)[mask].max() > 1e-3


def test_causal(tiny_model, prompts, run):
    tokens, _ = prompts
    mask = jnp.ones_like(tokens)
    one = run(tiny_model, tokens, mask)
    two = run(tiny_model, tokens.at[:, 3].set((tokens[:, 3] + 1) % 32), mask)
    np.testing.assert_array_equal(one[:, :3], two[:, :3])
    assert jnp.abs(one - two)[:, 3:].max(axis=(0, 2)).min() > 1e-3


def gradient(model, tokens, mask):
    graphdef, params = nnx.split(model, nnx.Param)

    def loss(params):
        logits = nnx.merge(graphdef, params)(tokens, mask)
        assert logits.dtype == jnp.float32
        return jnp.mean(jnp.where(mask, jax.nn.log_softmax(logits)[..., 3], 0.0))

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.slow
def test_gradients_are_finite_with_empty_rows_and_the_same_by_remat(build, tiny_config, prompts):
    tokens, mask = prompts
    mask = mask.at[0].set(False)
    value, plain = gradient(build(tiny_config), tokens, mask)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(g).all() and jnp.any(g != 0) for g in jax.tree.leaves(plain))
    for remat in (True, "dots_saveable"):
        _, other = gradient(build(tiny_config, remat=remat), tokens, mask)
        for g, r in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(g, r, atol=1e-6)


@pytest.mark.slow
def test_bfloat16_gradients_reach_float32_weights(build, tiny_config, prompts):
    tokens, mask = prompts
    mask = mask.at[0].set(False)
    value, narrow = gradient(build(tiny_config, dtype=jnp.bfloat16, remat=True), tokens, mask)
    assert jnp.isfinite(value)
    for g in jax.tree.leaves(narrow):
        assert g.dtype == jnp.float32
        assert jnp.isfinite(g).all()
        assert jnp.any(g != 0)


def test_random_weights(tiny_config):
    """The constructor itself, whose weights the other tests replace."""
    model = nnx.jit(lambda: Qwen3(tiny_config, rngs=nnx.Rngs(0)))()
    kernel = model.layers.gate_proj[...]
    assert 0.015 < float(jnp.std(kernel)) < 0.025
    assert not jnp.array_equal(kernel, model.layers.up_proj[...])
    assert (model.final_norm[...] == 1).all()


def test_hidden_states_times_head_are_the_logits(build, tiny_config, prompts, run):
    for tied in (True, False):
        config = dataclasses.replace(tiny_config, tie_word_embeddings=tied)
        model = build(config)
        logits = nnx.jit(lambda m, t, k: m.hidden_states(t, k) @ m.head())(model, *prompts)
        np.testing.assert_allclose(run(model, *prompts), logits, atol=1e-5)
        assert (model.lm_head is None) == tied


def test_a_layer_more_costs_no_more_to_compile(build, tiny_config, prompts):
    def program(depth):
        config = dataclasses.replace(tiny_config, num_hidden_layers=depth)
        model = build(config)
        graphdef, params = nnx.split(model, nnx.Param)
        loss = jax.grad(lambda p: nnx.merge(graphdef, p)(*prompts).sum())
        return jax.jit(loss).lower(params).as_text().count("\n")

    assert program(12) == program(3)


@pytest.mark.slow
def test_a_step_can_donate_the_parameters(build, tiny_config, prompts):
    graphdef, params = nnx.split(build(tiny_config), nnx.Param)

    @jax.jit(donate_argnums=0)
    def step(params):
        gradient = jax.grad(lambda p: nnx.merge(graphdef, p)(*prompts).mean())(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)

    for _ in range(2):
        params = step(params)
    assert step._cache_size() == 1


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"remat": "no_such_policy"}, "jax.checkpoint_policies, got 'no_such_policy'"),
        ({"attention": "triton"}, "'xla', 'chunked' or 'cudnn', got 'triton'"),
        ({"attention": "cudnn"}, "must be bfloat16 or float16 with attention 'cudnn'.*float32"),
    ],
)
def test_bad_arguments(tiny_config, changes, match):
    with pytest.raises(ValueError, match=match):
        Qwen3(tiny_config, rngs=nnx.Rngs(0), **changes)


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.float16])
def test_cudnn_takes_sixteen_bits(build, tiny_config, dtype):
    assert build(tiny_config, dtype=dtype, attention="cudnn").attention == "cudnn"


@pytest.mark.slow
def test_continuations_of_shared_prompts_are_the_whole_sequences(tiny_model, prompts):
    """States and gradients; two rows continue one prompt, and one prompt nobody."""
    tokens, mask = prompts
    owner = np.array([1, 0, 1, 1], np.int32)
    rng = np.random.default_rng(0)
    own = rng.integers(0, 32, (4, 3)).astype(np.int32)
    own_mask = np.arange(3) < np.array([[3], [2], [1], [3]])
    counted = jnp.asarray(np.concatenate([np.ones((4, 1), bool), own_mask], axis=1))
    graphdef, params = nnx.split(tiny_model, nnx.Param)

    def whole(params, owner):
        everything = jnp.concatenate([tokens[owner], own], axis=1)
        seen = jnp.concatenate([mask[owner], own_mask], axis=1)
        states = nnx.merge(graphdef, params).hidden_states(everything, seen)
        return states[:, tokens.shape[1] - 1 :]

    def shared(params, owner):
        return nnx.merge(graphdef, params).continuation_states(tokens, mask, owner, own, own_mask)

    @jax.jit
    def both(params, owner):
        def total(states, params):
            kept = jnp.where(counted[..., None], states(params, owner), 0.0)
            return jnp.sum(jnp.sin(kept)), kept

        return [jax.grad(lambda p, f=f: total(f, p), has_aux=True)(params) for f in (whole, shared)]

    (grad_one, one), (grad_two, two) = both(params, owner)
    np.testing.assert_allclose(one, two, atol=5e-6)
    for a, b in zip(jax.tree.leaves(grad_one), jax.tree.leaves(grad_two), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, float(jnp.abs(a).max())))
    # The control: other owners are other sequences.
    assert jnp.abs(both(params, 1 - owner)[1][1] - two).max() > 1e-2


def test_attention_in_chunks_is_attention():
    """Values and gradients, with a last chunk that is not full and a row that sees nothing."""
    rng = np.random.default_rng(0)
    shapes = ((2, 7, 4, 6), (2, 9, 2, 6), (2, 9, 2, 6))
    q, k, v = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)
    allowed = jnp.asarray(rng.random((2, 1, 7, 9)) < 0.6).at[0, 0, 3].set(False)
    weights = jnp.asarray(rng.standard_normal(shapes[0]), jnp.float32)

    def results(attention):
        loss = lambda q, k, v: jnp.sum(weights * attention(q, k, v))  # noqa: E731
        return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(q, k, v)

    whole = results(lambda *x: attend(*x, allowed))
    chunked = results(lambda *x: attend_in_chunks(*x, allowed, chunk=3))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(chunked), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    # No array holds the scores of all queries.
    text = jax.jit(lambda *x: attend_in_chunks(*x, allowed, chunk=3)).lower(q, k, v).as_text()
    assert "2x4x3x9xf32" in text.replace("2x2x2x3x9", "2x4x3x9")
    assert "x7x9xf32" not in text


@pytest.mark.slow
def test_lengths_made_even_for_cudnn_change_nothing(key):
    keys = jax.random.split(key, 4)
    q, k, v = (
        jax.random.normal(key, shape)
        for key, shape in zip(keys, ((2, 5, 4, 8), (2, 7, 2, 8), (2, 7, 2, 8)), strict=False)
    )
    allowed = jax.random.bernoulli(keys[3], 0.6, (2, 1, 5, 7)).at[..., 0].set(True)
    even = to_even_lengths(q, k, v, allowed)
    assert [x.shape[1] for x in even[:3]] == [6, 8, 8]
    np.testing.assert_allclose(attend(*even)[:, :5], attend(q, k, v, allowed), atol=1e-6)
    # The control: a key that is merely appended takes part.
    seen = jnp.ones_like(even[3])
    assert jnp.abs(attend(*even[:3], seen)[:, :5] - attend(q, k, v, seen[..., :5, :7])).max() > 1e-2


@pytest.mark.slow
def test_rows_packed_for_flash_attention_change_nothing(build, tiny_config, prompts, monkeypatch):
    """What cuDNN computes without an array of [T, T], by XLA on this machine."""
    tokens, mask = prompts
    # Padding on both sides and within.
    mask = mask.at[0, 5].set(False).at[2, 2].set(False)
    flash = functools.partial(_layers.causal_attention, implementation="xla")
    monkeypatch.setattr(_layers, "causal_attention", lambda q, k, v, rows, _: flash(q, k, v, rows))

    def states(attention, mask):
        model = build(tiny_config)
        model.attention = attention
        return jax.jit(model.hidden_states)(tokens, mask)

    def real(x):
        return jnp.where(mask[..., None], x, 0.0)

    wanted = real(states("xla", mask))
    np.testing.assert_allclose(real(states("cudnn", mask)), wanted, atol=1e-5)
    # The control: tokens that are not packed, since all count as real.
    assert jnp.abs(real(states("cudnn", jnp.ones_like(mask))) - wanted).max() > 1e-2


@pytest.mark.slow
def test_lengths_are_made_even_on_accelerators(build, tiny_config, prompts, monkeypatch):
    tokens, mask = prompts

    def program():
        # A function of its own: no cached trace.
        return jax.jit(lambda *x: build(tiny_config).hidden_states(*x))

    wanted = program()(tokens, mask)
    assert "tensor<4x8x" not in program().lower(tokens, mask).as_text()
    monkeypatch.setattr(_decoder, "target_platform", lambda mesh: "gpu")
    assert "tensor<4x8x" in program().lower(tokens, mask).as_text()
    even = program()(tokens, mask)
    assert even.shape == wanted.shape
    real = np.asarray(mask)
    np.testing.assert_allclose(even[real], wanted[real], atol=1e-5)


def test_weights_bound_to_their_layer_are_the_same(tiny_model):
    layer = tiny_model.layers.weights().by_layer(2)[1]
    bound = _layers.bound_to_layer(layer)
    for one, other in zip(jax.tree.leaves(layer), jax.tree.leaves(bound), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    # No gradient runs through the factor.
    gradient = jax.grad(lambda w: jnp.sum(_layers.bound_to_layer(w).down_proj ** 2))(layer)
    np.testing.assert_array_equal(gradient.down_proj, 2 * layer.down_proj)
    np.testing.assert_array_equal(gradient.input_norm, jnp.zeros_like(layer.input_norm))
    # The control: a weight that is not a number shows in all.
    broken = layer._replace(input_norm=layer.input_norm.at[0].set(jnp.nan))
    assert np.isnan(_layers.bound_to_layer(broken).q_proj).all()
