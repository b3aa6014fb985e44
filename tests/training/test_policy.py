"""Answers to some questions at a time are the answers to all."""

import jax
import jax.numpy as jnp
import numpy as np

from pgpo_jax.models import Samples
from pgpo_jax.training import load_policy


def test_a_part_of_the_prompts_at_a_time(monkeypatch):
    policy, params = load_policy("tiny")
    widths, keys = [], []

    def fake(model, tokens, mask, key, *, max_new_tokens, samples_per_prompt, **_):
        # Answers with the prompt's last token.
        widths.append(tokens.shape)
        keys.append(jax.random.key_data(key).tolist())
        rows = jnp.repeat(tokens[:, -1:], samples_per_prompt, axis=0)
        answers = jnp.tile(rows, (1, max_new_tokens))
        return Samples(answers, -answers.astype(jnp.float32), answers > 0)

    monkeypatch.setattr("pgpo_jax.training._policy.sample", fake)
    prompts = [[5, 6], [7], [8] * 9, [9]]
    settings = {"samples": 2, "max_new_tokens": 3, "temperature": 1.0, "top_p": 1.0}
    sizes = {"smallest_bucket": 4, "largest_prompt": 16}

    def respond(at_once):
        return policy.respond(
            params, prompts, jax.random.key(0), **settings, **sizes, at_once=at_once
        )

    whole, parts = respond(None), respond(2)
    assert widths == [(4, 16), (2, 4), (2, 16)]
    assert keys[1] != keys[2]
    for a, b in zip(whole[:3], parts[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    assert parts.tokens[:, 0].tolist() == [6, 6, 7, 7, 8, 8, 9, 9]
    assert parts.texts == whole.texts
