"""A full batch of random tokens, as the compiled training step takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._grouped_tokens import grouped_tokens
from pgpo_jax.training import Experience


def random_batch(
    vocabulary: int, *, rows: int, prompt: int, teacher_prompt: int, response: int, seed: int = 0
) -> Experience:
    """Every position real, every sequence with a teacher signal.

    Args:
        vocabulary: ids are below it.
        rows: sequences.
        prompt: tokens of each prompt.
        teacher_prompt: tokens of each of the teacher's prompts.
        response: tokens of each response.
        seed: of the tokens.

    Returns:
        The arrays, on the device.
    """
    rng = np.random.default_rng(seed)

    def tokens(length: int) -> np.ndarray:
        return rng.integers(0, vocabulary, (rows, length))

    return _full(vocabulary, tokens(prompt), tokens(teacher_prompt), tokens(response))


def grouped_batch(vocabulary: int, shape: Mapping[str, Any], *, share: bool) -> Experience:
    """The tokens of `grouped_tokens`, every position real, every sequence with a teacher signal.

    Args:
        vocabulary: ids are below it.
        shape: further arguments of `grouped_tokens`.
        share: whether a prompt stands once for all of its rows, as with `rollout.share_prompts`.

    Returns:
        The arrays, on the device.
    """
    found = grouped_tokens(vocabulary, **shape)
    prompts = [found["prompt"], found["teacher_prompt"]]
    owners = [found["prompt_owner"], found["teacher_prompt_owner"]]
    if not share:
        first, second = (prompt[owner] for prompt, owner in zip(prompts, owners, strict=True))
        return _full(vocabulary, first, second, found["response"])
    first, second = (jnp.asarray(owner, jnp.int32) for owner in owners)
    batch = _full(vocabulary, found["prompt"], found["teacher_prompt"], found["response"])
    return batch._replace(prompt_owner=first, teacher_prompt_owner=second)


def _full(
    vocabulary: int, prompt: np.ndarray, teacher_prompt: np.ndarray, response: np.ndarray
) -> Experience:
    """Tokens without padding; the sampler had equal chances for every token."""
    rows = len(response)

    def part(tokens: np.ndarray) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(tokens, jnp.int32), jnp.ones(tokens.shape, bool)

    return Experience(
        *part(prompt),
        *part(teacher_prompt),
        *part(response),
        sampler_logprobs=jnp.full(response.shape, -np.log(vocabulary), jnp.float32),
        sequence_mask=jnp.ones(rows, bool),
        signal_mask=jnp.ones(rows, bool),
        score=jnp.ones(rows, jnp.float32),
    )
