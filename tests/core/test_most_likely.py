"""Top-k on a mesh: the indices of one device, ties too, and no logits that travel."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from pgpo_jax import distillation
from pgpo_jax.distillation._most_likely import most_likely

AXES = ("data", "fsdp", "tensor")
NOT_CUT, ROWS, WORDS = P(), P(("data", "fsdp")), P(None, None, "tensor")
BOTH = P(("data", "fsdp"), None, "tensor")


def mesh_of(*sizes, names=AXES, kind=AxisType.Auto):
    return jax.make_mesh(sizes, names, (kind,) * len(sizes))


def few_values(*shape):
    """Logits of which very many are equal."""
    return np.random.default_rng(0).integers(0, 6, shape).astype(np.float32)


def top(k):
    return jax.jit(lambda z: most_likely(z, k))


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 8, 1), (1, 1, 8), (2, 4, 1)])
@pytest.mark.parametrize("cut", [NOT_CUT, ROWS, WORDS, BOTH], ids=str)
# 20 is more than an eighth of the words, so that no shard alone has enough.
@pytest.mark.parametrize("k", [1, 20])
def test_the_indices_of_one_device(sizes, cut, k):
    z = few_values(8, 3, 64)
    want = np.asarray(jax.lax.top_k(z, k)[1])
    placed = jax.device_put(z, NamedSharding(mesh_of(*sizes), cut))
    np.testing.assert_array_equal(top(k)(placed), want)
    # The control: the highest among equals would be other words.
    highest = 63 - np.asarray(jax.lax.top_k(z[..., ::-1], k)[1])
    assert (highest != want).mean() > 0.5


@pytest.mark.parametrize("shape", [(8, 3, 63), (5, 1, 64), (5, 1, 63), (1, 8, 64)])
def test_what_the_mesh_does_not_divide_stays_whole(shape):
    z = few_values(*shape)
    placed = jax.device_put(z, NamedSharding(mesh_of(2, 2, 2), P()))
    np.testing.assert_array_equal(top(7)(placed), jax.lax.top_k(z, 7)[1])


def test_infinities_and_nan_are_ordered_as_on_one_device():
    z = few_values(8, 2, 64)
    z[:, :, 40], z[0, 0, 3], z[1, :, ::2], z[2] = np.inf, np.nan, -np.inf, -np.inf
    placed = jax.device_put(z, NamedSharding(mesh_of(2, 2, 2), BOTH))
    np.testing.assert_array_equal(top(40)(placed), jax.lax.top_k(z, 40)[1])


@pytest.mark.parametrize(
    ("sizes", "names"),
    [((4, 2), ("fsdp", "tp")), ((8,), ("x",)), ((2, 4), ("batch", "words"))],
)
def test_other_names_of_axes_give_the_same(sizes, names):
    z = few_values(8, 3, 64)
    placed = jax.device_put(z, NamedSharding(mesh_of(*sizes, names=names), P(names[0])))
    np.testing.assert_array_equal(top(20)(placed), jax.lax.top_k(z, 20)[1])


def gathered(compiled):
    found = re.findall(r"= \w+\[([\d,]+)\]\S* all-(?:gather|to-all)\(", compiled.as_text())
    return [np.prod([int(n) for n in shape.split(",")]) for shape in found]


def test_only_candidates_travel():
    def compiled(f, cut):
        where = NamedSharding(mesh_of(1, 4, 2), cut)
        z = jax.ShapeDtypeStruct((8, 4, 4096), jnp.float32, sharding=where)
        return jax.jit(f).lower(z).compile()

    def plain(z):
        return jax.lax.top_k(z, 10)[1]

    assert gathered(compiled(lambda z: most_likely(z, 10), ROWS)) == [8 * 2 * 10] * 2
    # 8 rows of a device, the candidates of two shards.
    assert gathered(compiled(lambda z: most_likely(z, 10), BOTH)) == [8 * 2 * 10] * 2
    # The control: a plain top-k.
    assert max(gathered(compiled(plain, BOTH))) >= 8 * 4 * 4096 / 2


def test_nothing_that_only_some_compilers_know():
    """The TPU compiler refuses the custom call of `custom_partitioning` on several devices."""
    where = NamedSharding(mesh_of(1, 4, 2), BOTH)
    z = jax.ShapeDtypeStruct((8, 4, 64), jnp.float32, sharding=where)
    text = top(10).trace(z).lower(lowering_platforms=("tpu",)).as_text()
    assert "all_gather" in text
    assert "custom_call" not in text


def test_without_a_mesh_it_is_the_plain_program():
    def plain(z):
        return jax.lax.top_k(jax.lax.stop_gradient(z), 10)[1]

    def ours(z):
        return most_likely(z, 10)

    def text(f, z):
        return re.sub(r"@jit_\w+", "@f", jax.jit(f).lower(z).as_text())

    alone = jax.ShapeDtypeStruct((8, 4, 64), jnp.float32)
    assert text(ours, alone) == text(plain, alone)
    of_one = jax.make_mesh((1,), ("tensor",), (AxisType.Auto,), devices=jax.devices()[:1])
    alone = jax.ShapeDtypeStruct(alone.shape, alone.dtype, sharding=NamedSharding(of_one, P()))
    assert text(ours, alone) == text(plain, alone)
    # The control: on a mesh it is another.
    cut = jax.ShapeDtypeStruct(
        alone.shape, alone.dtype, sharding=NamedSharding(mesh_of(1, 4, 2), BOTH)
    )
    assert text(ours, cut) != text(plain, cut)


def test_inside_shard_map_each_device_ranks_its_own():
    mesh = mesh_of(8, names=("data",))
    z = few_values(8, 3, 64)
    mapped = jax.shard_map(
        lambda z: most_likely(z, 5), mesh=mesh, in_specs=P("data"), out_specs=P("data")
    )
    np.testing.assert_array_equal(jax.jit(mapped)(z), jax.lax.top_k(z, 5)[1])


def test_explicit_axes():
    z = few_values(8, 3, 64)
    mesh = mesh_of(8, names=("x",), kind=AxisType.Explicit)
    placed = jax.device_put(z, NamedSharding(mesh, P("x")))
    np.testing.assert_array_equal(top(5)(placed), jax.lax.top_k(z, 5)[1])


@pytest.mark.slow
@pytest.mark.parametrize("support", ["topk_tail", "topk"])
def test_under_vmap_and_gradients(support):
    z = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 64)), jnp.float32)

    def loss(z):
        return distillation.divergence(z, z[::-1], k=9, support=support).sum()

    f = jax.jit(jax.vmap(jax.value_and_grad(loss)))
    want = f(z)
    placed = jax.device_put(z, NamedSharding(mesh_of(1, 4, 2), P(None, "fsdp", "tensor")))
    got = f(placed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, want)
    assert np.abs(want[1]).max() > 0.01
