"""Products are rounded where they are told to be, and nothing else is."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import product_precision
from benchmarks._rounding import BFLOAT16, FLOAT32, TF32, Rounding, rounded_products


def inputs():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=(8, 8)), jnp.float32) for _ in range(2))


def layers(x, kernel):
    """A product in a scan, a call and a function with a gradient of its own."""

    def layer(x, _):
        return jax.nn.silu(jax.jit(jnp.matmul)(x, kernel)), None

    return jax.lax.scan(layer, x, None, length=3)[0]


def test_a_product_of_bfloat16():
    x, kernel = inputs()
    rounded = rounded_products(jnp.matmul, lambda _: Rounding(BFLOAT16, FLOAT32))(x, kernel)
    narrow = (y.astype(jnp.bfloat16).astype(jnp.float32) for y in (x, kernel))
    np.testing.assert_array_equal(rounded, jnp.matmul(*narrow))
    # The control: without rounding the product is another.
    assert np.abs(rounded - x @ kernel).max() > 1e-3
    result = rounded_products(jnp.matmul, lambda _: Rounding(FLOAT32, BFLOAT16))(x, kernel)
    np.testing.assert_array_equal(result, (x @ kernel).astype(jnp.bfloat16).astype(jnp.float32))


@pytest.mark.parametrize("bits", [BFLOAT16, TF32])
def test_rounding_is_to_the_nearest(bits):
    """One times a number is that number, rounded; a tie goes to the even one."""
    rng = np.random.default_rng(1)
    ties = 1 + np.arange(1, 9) / 2 ** (bits + 1)
    x = np.concatenate([rng.normal(size=1000) * 10.0 ** rng.integers(-9, 9, 1000), ties, -ties])
    x = jnp.asarray(x, jnp.float32)[:, None]
    product = rounded_products(jnp.matmul, lambda _: Rounding(bits, FLOAT32))
    expected = jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits)
    np.testing.assert_array_equal(product(x, jnp.ones((1, 1))), expected)


def test_products_inside_loops_and_calls():
    x, kernel = inputs()
    same = rounded_products(layers, lambda _: Rounding(FLOAT32, FLOAT32))(x, kernel)
    np.testing.assert_array_equal(same, layers(x, kernel))
    seen = []

    def rule(equation):
        seen.append(equation.primitive.name)
        return Rounding(TF32, FLOAT32)

    rounded = jax.jit(rounded_products(layers, rule))(x, kernel)
    assert set(seen) == {"dot_general"}
    assert 1e-6 < np.abs(rounded - same).max() < 0.1


def test_a_loop_that_is_not_known():
    def looped(x, kernel):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ kernel, x)

    with pytest.raises(NotImplementedError, match="products inside while are not rounded"):
        rounded_products(looped, lambda _: Rounding(TF32, FLOAT32))(*inputs())


@pytest.mark.slow
def test_it_runs_from_end_to_end(tmp_path):
    file = tmp_path / "precision.json"
    flags = ["--model", "tiny", "--questions", "1", "--response", "4", "--vocabulary", "600"]
    product_precision.main([*flags, "--json", str(file)])
    record = json.loads(file.read_text())
    # Attention and the head of a float32 model are exact everywhere.
    assert record["left_to_the_platform"]["float32"] == ["kernels"]
    rows = {(r["dtype"], r["products"], r["rounding"], r["vocabulary"]): r for r in record["rows"]}
    exact = rows["float32", "none", "", 600]
    assert exact["entropy_rms"] == exact["information_change"] == 0
    head = rows["float32", "head", "bfloat16", 600]
    assert head["entropy_rms"] > rows["float32", "head", "TF32", 600]["entropy_rms"] > 0
    assert (
        rows["float32", "as run on TPU", "bfloat16", 600] | {"products": "kernels"}
        == (rows["float32", "kernels", "bfloat16", 600])
    )
