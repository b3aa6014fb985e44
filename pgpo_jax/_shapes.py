"""Refuses shapes that would broadcast to a number that nobody asked for."""

import jax.numpy as jnp
from jaxtyping import ArrayLike

from pgpo_jax.errors import PGPOValueError


def check_pair(student: ArrayLike, teacher: ArrayLike) -> None:
    """Refuse student and teacher of different shapes.

    Raises:
        ValueError: they differ; names both shapes.
    """
    ours, theirs = jnp.shape(student), jnp.shape(teacher)
    if ours != theirs:
        raise PGPOValueError(
            f"student and teacher must have the same shape, got {ours} and {theirs}: give both "
            "over the same response tokens and the same vocabulary"
        )


def check_reduced(
    per_token: ArrayLike, mask: ArrayLike, sequence_mask: ArrayLike | None = None
) -> None:
    """Refuse numbers per token and masks that are not of one batch.

    Raises:
        ValueError: `per_token` and `mask` are not both `[batch, tokens]`, or `sequence_mask` is not
            `[batch]`; names the shapes.
    """
    rows, held = jnp.shape(per_token), jnp.shape(mask)
    if len(rows) != 2 or held != rows:
        raise PGPOValueError(
            "the mask must have the shape [batch, tokens] of the numbers per token, got numbers of "
            f"shape {rows} and a mask of shape {held}. Logits have [batch, tokens, vocabulary]; "
            "with one token a question, pass logits[:, None]"
        )
    if sequence_mask is not None and jnp.shape(sequence_mask) != rows[:1]:
        raise PGPOValueError(
            f"sequence_mask must have the shape [batch] = {rows[:1]}, got "
            f"{jnp.shape(sequence_mask)}"
        )
