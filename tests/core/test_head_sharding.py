"""The head cut over the vocabulary on a mesh: one device's numbers, and no head that travels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

from pgpo_jax.distillation import (
    HeadSharding,
    cross_entropy_head_loss,
    policy_head_loss,
    sdpo_head_loss,
)
from pgpo_jax.models import make_mesh
from pgpo_jax.training.target._hlo import ProgramText

ROWS, LENGTH, WIDTH, WORDS = 8, 6, 16, 512


def inputs():
    rng = np.random.default_rng(0)
    arrays = (
        rng.normal(size=(ROWS, LENGTH, WIDTH)).astype(np.float32),
        rng.normal(size=(ROWS, LENGTH, WIDTH)).astype(np.float32),
        rng.normal(size=(WIDTH, WORDS)).astype(np.float32),
        rng.normal(size=(WIDTH, WORDS)).astype(np.float32),
        rng.integers(0, WORDS, (ROWS, LENGTH)).astype(np.int32),
    )
    return [jnp.asarray(x) for x in arrays]


def sharding_of(mesh):
    return HeadSharding(mesh, rows=("data", "fsdp"), vocabulary=("tensor", "fsdp"))


def step(sharding=None, k=20, **kw):
    def loss(student, teacher, student_head, teacher_head, tokens):
        out = sdpo_head_loss(
            student, teacher, student_head, teacher_head, tokens, jnp.ones(tokens.shape),
            k=k, sharding=sharding, **kw,
        )  # fmt: skip
        return out.loss, out

    return jax.jit(jax.value_and_grad(loss, (0, 2), has_aux=True))


def on(mesh):
    hidden, head = P(("data", "fsdp")), P("fsdp", "tensor")
    specs = (hidden, hidden, head, head, hidden)
    return [
        jax.device_put(x, NamedSharding(mesh, spec))
        for x, spec in zip(inputs(), specs, strict=True)
    ]


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 8, 1)])
@pytest.mark.parametrize(
    "kw",
    [
        {},
        {"support": "full"},
        {"support": "topk", "chunk_size": 3},
        {"support": "topk_union", "k": 4},
        {"modulation": "sequence"},
    ],
    ids=str,
)
def test_loss_statistics_and_gradients_of_one_device(sizes, kw):
    mesh = make_mesh(*sizes)
    kw = {"chunk_size": 16} | kw
    (_, want), wanted = step(**kw)(*inputs())
    (_, got), gradients = step(sharding_of(mesh), **kw)(*on(mesh))
    for a, b in zip(*map(jax.tree.leaves, ((want, wanted), (got, gradients))), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
    # The control: half of the words are another loss.
    student, teacher, *heads, tokens = inputs()
    half = [head[:, : WORDS // 2] for head in heads]
    (other, _), _ = step(**kw)(student, teacher, *half, tokens % (WORDS // 2))
    assert abs(other - want.loss) > 1e-3


def test_no_device_holds_or_sends_a_head():
    mesh = make_mesh(1, 8, 1)

    def largest(sharding):
        compiled = step(sharding, k=4, chunk_size=16).lower(*on(mesh)).compile()
        return max(one.bytes for one in ProgramText(compiled.as_text()).collectives())

    head = WIDTH * WORDS * 4
    assert largest(sharding_of(mesh)) <= head / 8
    # The control: left to XLA the head is gathered and its gradient summed whole.
    assert largest(None) >= head


@pytest.mark.parametrize("kind", ["policy", "cross entropy"])
def test_the_losses_of_one_model_too(kind):
    mesh = make_mesh(1, 8, 1)
    hidden, _, head, _, tokens = inputs()
    advantages = jnp.linspace(-1, 1, ROWS, dtype=jnp.float32)

    def loss(hidden, head, sharding=None):
        settings = {"chunk_size": 16, "sharding": sharding}
        mask = jnp.ones(tokens.shape)
        if kind == "policy":
            return policy_head_loss(hidden, head, tokens, advantages, mask, **settings).loss
        return cross_entropy_head_loss(hidden, head, tokens, mask, **settings).loss

    want = jax.value_and_grad(loss, (0, 1))(hidden, head)
    placed, _, placed_head, *_ = on(mesh)
    step = jax.jit(jax.value_and_grad(loss, (0, 1)), static_argnums=2)
    got = step(placed, placed_head, sharding_of(mesh))
    for a, b in zip(*map(jax.tree.leaves, (want, got)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)

    def largest(sharding):
        text = step.lower(placed, placed_head, sharding).compile().as_text()
        return max(one.bytes for one in ProgramText(text).collectives())

    assert largest(sharding_of(mesh)) <= WIDTH * WORDS * 4 / 8
    # The control: left to XLA the head travels whole.
    assert largest(None) >= WIDTH * WORDS * 4


def test_a_vocabulary_that_does_not_divide():
    mesh = make_mesh(1, 8, 1)
    hidden, teacher, head, _, tokens = inputs()
    with pytest.raises(ValueError, match="vocabulary of 500 must divide over tensor x fsdp = 8"):
        sdpo_head_loss(
            hidden, teacher, head[:, :500], head[:, :500], tokens, tokens,
            sharding=sharding_of(mesh),
        )  # fmt: skip
