"""The feed-forward part: its gradient is that of the formula, and needs less memory at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax.models import _feed_forward
from pgpo_jax.models._feed_forward import feed_forward, swiglu
from pgpo_jax.models._lora import LowRank

ROWS, WIDTH, INNER = 256, 16, 4096


def formula(x, gate, up, down):
    return jax.nn.silu(x @ gate) * (x @ up) @ down


def gradients(of):
    """Values and gradients of all four inputs, computed again in the backward pass."""

    def both(x, *kernels):
        value, pull = jax.vjp(jax.checkpoint(of), x, *kernels)
        return value, *pull(jnp.sin(x))

    return jax.jit(both)


@pytest.fixture
def inputs(key):
    shapes = ((ROWS, WIDTH), (WIDTH, INNER), (WIDTH, INNER), (INNER, WIDTH))
    return [
        0.1 * jax.random.normal(key, shape)
        for key, shape in zip(jax.random.split(key, 4), shapes, strict=True)
    ]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_gradient_is_that_of_the_formula(inputs, dtype):
    inputs = [x.astype(dtype) for x in inputs]
    ours, wanted = (gradients(of)(*inputs) for of in (swiglu, formula))
    for one, other in zip(ours, wanted, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(*(np.asarray(x, np.float32) for x in (one, other)), rtol=1e-5)
    # The control: the other kernel is gated.
    x, gate, up, down = inputs
    swapped = gradients(swiglu)(x, up, gate, down)
    assert not np.allclose(swapped[0], wanted[0], rtol=1e-2)


def test_fewer_arrays_of_the_inner_width_are_held(inputs):
    def held(of):
        compiled = gradients(of).lower(*inputs).compile()
        memory = compiled.memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes / (ROWS * INNER * 4)

    # The formula, which is the control, holds all of a backward pass.
    assert held(swiglu) < 4.5
    assert held(formula) > 5.5


def test_frozen_kernels_have_no_gradient_to_hold(tiny_model, tiny_config, monkeypatch, key):
    """With an adapter anywhere the plain formula is used, whose unused gradients are dropped."""
    calls = []
    monkeypatch.setattr(_feed_forward, "swiglu", lambda *x: calls.append(1) or swiglu(*x))
    layer = tiny_model.layers.weights().by_layer(1)[0]
    x = jax.random.normal(key, (2, 3, tiny_config.hidden_size))
    trained = feed_forward(x, layer, tiny_config)
    # The control: without an adapter the fixed order is used.
    assert calls == [1]
    query = layer.q_proj
    adapter = LowRank(query, jnp.zeros((query.shape[0], 2)), jnp.zeros((2, query.shape[1])))
    frozen = feed_forward(x, layer._replace(q_proj=adapter), tiny_config)
    assert calls == [1]
    np.testing.assert_allclose(frozen, trained, atol=1e-6)
