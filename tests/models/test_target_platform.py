"""A program follows the devices of its mesh, not the machine that it is written on."""

from types import SimpleNamespace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh

from pgpo_jax.models import Qwen3, make_mesh
from pgpo_jax.models._cache import cache_dtype
from pgpo_jax.models._decode import prefill
from pgpo_jax.models._layers import attend
from pgpo_jax.models._sharding import target_platform
from pgpo_jax.models._step_weights import HalvedKernel, step_weights
from tests.core.test_product_precision import EXACT, precisions


def devices_of(platform):
    """What a mesh of another platform's devices shows of them."""
    devices = np.array([[SimpleNamespace(platform=platform)]])
    return mock.Mock(spec=Mesh, devices=devices, size=1)


@pytest.fixture
def elsewhere(monkeypatch):
    """This machine calls itself a TPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")


def sampler(config, mesh):
    """The lowered start of a sampler: prompts, and the weights that each step reads."""

    def start(params, tokens, mask):
        model = nnx.merge(graphdef, params)
        return prefill(model, tokens, mask), step_weights(model, 1, 8)

    model = nnx.eval_shape(lambda: Qwen3(config, rngs=nnx.Rngs(0), dtype=jnp.bfloat16, mesh=mesh))
    graphdef, params = nnx.split(model, nnx.Param)
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    return jax.jit(start).lower(params, tokens, jax.ShapeDtypeStruct((1, 4), jnp.bool_)).as_text()


def test_the_name_of_the_machine_changes_no_program_of_a_mesh(tiny_config, monkeypatch):
    mesh = make_mesh(devices=jax.devices()[:1])
    here, alone = (sampler(tiny_config, x) for x in (mesh, None))
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert sampler(tiny_config, mesh) == here
    # The control: without a mesh the machine is the target.
    assert sampler(tiny_config, None) != alone


def test_the_target(elsewhere):
    assert target_platform(make_mesh(devices=jax.devices()[:1])) == "cpu"
    assert target_platform(devices_of("gpu")) == "gpu"
    assert target_platform(None) == "tpu"
    with jax.default_device("cpu"):
        assert target_platform(None) == "cpu"
    with jax.default_device(jax.devices()[1]):
        assert target_platform(None) == "cpu"


@pytest.mark.parametrize(("platform", "kept"), [("cpu", "float32"), ("tpu", "bfloat16")])
def test_the_cache_is_wide_on_a_cpu_alone(platform, kept):
    assert jnp.dtype(cache_dtype(jnp.bfloat16, devices_of(platform))) == kept


@pytest.mark.parametrize(("platform", "halved"), [("cpu", True), ("gpu", False)])
def test_kernels_are_halved_on_a_cpu_alone(tiny_model, platform, halved, monkeypatch):
    module = "pgpo_jax.models._step_weights.target_platform"
    monkeypatch.setattr(module, lambda mesh: platform)
    assert isinstance(step_weights(tiny_model, 1, 4).head, HalvedKernel) == halved


@pytest.mark.parametrize("implementation", ["xla", "chunked"])
@pytest.mark.parametrize(("dtype", "want"), [("float32", EXACT), ("bfloat16", None)])
def test_attention_products(implementation, dtype, want):
    q = jnp.ones((1, 3, 4, 8), dtype)
    k = jnp.ones((1, 3, 2, 8), dtype)

    def loss(q, k, v):
        allowed = jnp.ones((1, 1, 3, 3), bool)
        return attend(q, k, v, allowed, implementation).astype(jnp.float32).sum()

    found = precisions(jax.grad(loss, (0, 1, 2)), q, k, k)
    assert len(found) >= 6  # two forward, four backward
    assert set(found) == {want}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_digits_of_attention_on_a_cpu_are_those_of_the_default(dtype):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, 5, n, 8)), dtype) for n in (4, 2, 2))
    allowed = jnp.tile(jnp.tril(jnp.ones((5, 5), bool)), (2, 1, 1, 1))
    wide = [x.astype(jnp.float32) for x in (q, k, v)]
    want = jax.jit(lambda *x: jax.nn.dot_product_attention(*x, mask=allowed))(*wide).astype(dtype)
    np.testing.assert_array_equal(jax.jit(attend)(q, k, v, allowed), want)


@pytest.mark.parametrize(("dtype", "want"), [("float32", EXACT), ("bfloat16", None)])
def test_logits(build, tiny_config, dtype, want, elsewhere):
    model = build(tiny_config, dtype=jnp.dtype(dtype))
    tokens, mask = jnp.ones((1, 3), jnp.int32), jnp.ones((1, 3), bool)
    assert precisions(model, tokens, mask)[-1] == want
    weights = step_weights(model, 1, 4)
    assert precisions(weights.logits, jnp.ones((1, 16), dtype)) == [want]
