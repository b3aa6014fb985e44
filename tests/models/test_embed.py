"""The embedding on a mesh: the rows of one device, and no table that travels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

from pgpo_jax.models import make_mesh
from pgpo_jax.models._embed import look_up
from pgpo_jax.models._sharding import constrain
from pgpo_jax.training.target._hlo import ProgramText

WORDS, WIDTH = 64, 32


def placed(mesh):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(WORDS, WIDTH)).astype(np.float32)
    tokens = rng.integers(0, WORDS, (8, 5)).astype(np.int32)
    tokens[0, :2] = 0, WORDS - 1
    table = jax.device_put(table, NamedSharding(mesh, P("tensor", "fsdp")))
    return table, jax.device_put(tokens, NamedSharding(mesh, P(("data", "fsdp"))))


def gradient(look_up):
    def loss(table, tokens):
        return jnp.sum(look_up(table, tokens) ** 3)

    return jax.value_and_grad(loss)


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 8, 1), (1, 2, 4)])
def test_rows_and_gradient_of_one_device(sizes):
    mesh = make_mesh(*sizes)
    table, tokens = placed(mesh)
    want = np.asarray(table)[np.asarray(tokens)]
    rows = jax.jit(lambda *x: look_up(*x, mesh))(table, tokens)
    np.testing.assert_array_equal(rows, want)
    assert rows.sharding.is_equivalent_to(NamedSharding(mesh, P(("data", "fsdp"))), 3)
    value, to_table = jax.jit(gradient(lambda *x: look_up(*x, mesh)))(table, tokens)
    alone = gradient(lambda table, tokens: table[tokens])(*map(np.asarray, (table, tokens)))
    np.testing.assert_allclose(value, alone[0], rtol=1e-5)
    np.testing.assert_allclose(to_table, alone[1], rtol=1e-5, atol=1e-5)
    # The control: words that were never looked up have no gradient, the others do.
    seen = np.isin(np.arange(WORDS), np.asarray(tokens))
    assert (np.abs(to_table).max(1) > 0).tolist() == seen.tolist()


def test_no_table_travels():
    mesh = make_mesh(1, 8, 1)
    table, tokens = placed(mesh)

    def largest(look_up):
        text = jax.jit(gradient(look_up)).lower(table, tokens).compile().as_text()
        return max(one.bytes for one in ProgramText(text).collectives())

    # What every device sends is its rows of the result: 8 x 5 x 32 numbers, an eighth each.
    assert largest(lambda *x: look_up(*x, mesh)) <= 8 * 5 * WIDTH * 4

    # The control: a table that is gathered first.
    def gathered(table, tokens):
        return constrain(
            constrain(table, ("vocab", None), mesh)[tokens], ("batch", None, None), mesh
        )

    assert largest(gathered) >= WORDS * WIDTH * 4


def test_rows_that_do_not_divide():
    mesh = make_mesh(1, 8, 1)
    table, tokens = placed(mesh)
    with pytest.raises(ValueError, match="batch of 6 must divide over the mesh"):
        look_up(table, tokens[:6], mesh)
