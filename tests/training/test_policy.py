"""Answers to some questions at a time, or on a mesh, are the answers to all on one device."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax.models import Samples
from pgpo_jax.training import MeshConfig, load_policy, make_mesh
from pgpo_jax.training.devices._mesh import row_parts


@pytest.fixture(scope="module")
def policy():
    return load_policy("tiny")


@pytest.fixture
def respond(policy, monkeypatch):
    """Asks for two answers to each of four prompts; and the shapes that were sampled."""
    widths = []

    def fake(model, tokens, mask, keys, *, max_new_tokens, samples_per_prompt, **_):
        # Answers with the prompt's last token, as likely as the row's key says.
        widths.append(tokens.shape)
        rows = np.repeat(np.asarray(tokens)[:, -1:], samples_per_prompt, axis=0)
        answers = jnp.asarray(np.tile(rows, (1, max_new_tokens)))
        logprobs = jax.random.key_data(keys)[:, :1] % 1000 * jnp.ones_like(answers, jnp.uint32)
        return Samples(answers, logprobs.astype(jnp.float32), answers > 0)

    monkeypatch.setattr("pgpo_jax.training.rollout._engine.sample", fake)

    def respond(sizes=(1, 1, 1), **settings):
        widths.clear()
        there = dataclasses.replace(policy[0], mesh=make_mesh(MeshConfig(*sizes)))
        prompts = [[5, 6], [7], [8] * 9, [9]]
        fixed = {"samples": 2, "max_new_tokens": 3, "temperature": 1.0, "top_p": 1.0}
        fixed |= {"smallest_bucket": 4, "largest_prompt": 16}
        out = there.respond(policy[1], prompts, jax.random.key(0), **(fixed | settings))
        return out, list(widths)

    return respond


@pytest.mark.parametrize(
    ("sizes", "at_once", "widths"),
    [
        ((1, 1, 1), 2, [(2, 4), (2, 16)]),
        ((1, 1, 1), 1, [(1, 4), (1, 4), (1, 16), (1, 4)]),
        # Prompts 0 and 2, of different devices, then 1 and 3.
        ((1, 2, 4), 2, [(2, 16), (2, 4)]),
        ((2, 2, 2), 4, [(4, 16)]),
    ],
)
def test_neither_parts_nor_a_mesh_change_the_answers(respond, sizes, at_once, widths):
    whole, (shape,) = respond()
    assert shape == (4, 16)
    parts, shapes = respond(sizes, at_once=at_once)
    assert shapes == widths
    for a, b in zip(whole[:3], parts[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    assert parts.tokens[:, 0].tolist() == [6, 6, 7, 7, 8, 8, 9, 9]
    assert parts.texts == whole.texts
    # No two rows are sampled with the same random numbers.
    assert len(set(whole.logprobs[:, 0].tolist())) == 8


def test_parts_lie_where_the_whole_lies():
    mesh = make_mesh(MeshConfig(data=2, tensor=4))
    assert row_parts(8, 4, mesh).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert row_parts(8, 4, None).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    for size in (3, 1):
        with pytest.raises(ValueError, match=rf"parts of {size} rows must divide 8 rows.* = 2 dev"):
            row_parts(8, size, mesh)
