"""The mean of a loss over the sequences that train, and its denominators."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax.training.rollout._batch import Experience


def mean_over_loss(batch: Experience, per_token: Float[Array, "R T"]) -> Float[Array, ""]:
    """The mean over the response tokens of the sequences that enter the loss.

    Added in version 0.2.0.
    """
    weight = (batch.response_mask & batch.sequence_mask[:, None]).astype(jnp.float32)
    total = jnp.maximum(weight.sum(), 1.0)
    return jnp.sum(jnp.where(weight > 0, per_token, 0.0)) / total


def reduction_denominators(reduction: str, batch: Experience, sequences: int) -> dict[str, Any]:
    """Of a reduction, as keywords of the head losses.

    Sequences that were dropped because they have no teacher signal count among the sequences, but
    their tokens do not count among the tokens.

    Added in version 0.2.0.
    """
    if reduction == "token_mean":
        valid = batch.response_mask & batch.sequence_mask[:, None]
        return {"num_tokens": valid.sum(dtype=jnp.int32)}
    return {"num_sequences": sequences}
