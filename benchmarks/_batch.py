"""A full batch of random tokens, as the compiled training step takes it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

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

    def tokens(length: int) -> tuple[jax.Array, jax.Array]:
        drawn = jnp.asarray(rng.integers(0, vocabulary, (rows, length)), jnp.int32)
        return drawn, jnp.ones((rows, length), bool)

    return Experience(
        *tokens(prompt),
        *tokens(teacher_prompt),
        *tokens(response),
        sampler_logprobs=jnp.full((rows, response), -np.log(vocabulary), jnp.float32),
        sequence_mask=jnp.ones(rows, bool),
        signal_mask=jnp.ones(rows, bool),
        score=jnp.ones(rows, jnp.float32),
    )
