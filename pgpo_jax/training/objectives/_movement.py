"""How far an update moves the policy."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax.distillation import head_divergences
from pgpo_jax.training.objectives._base import Models, student_states
from pgpo_jax.training.rollout._batch import Experience

STRIDE = 8
"""Every such row of a batch is measured: two passes of an eighth of the rows."""


def policy_movement(
    before: Models, after: Any, batch: Experience, *, chunk: int = 512
) -> Float[Array, ""]:
    """KL divergence per token of the policy after an update from the policy before, in nats.

    It is the mean over the response tokens of every eighth row. Nothing is differentiated.

    Args:
        before: the models before the update.
        after: weights of the student after it.
        batch: all rows of the step.
        chunk: tokens that go through the heads at a time.

    Returns:
        A scalar; 0 if these rows have no response token.
    """
    rows = _every(batch, STRIDE)
    old, old_head = student_states(before, rows)
    new, new_head = student_states(before._replace(student=after), rows)
    per_token = head_divergences(
        old,
        old_head,
        new,
        new_head,
        rows.response_mask,
        temperature=before.temperature,
        chunk_size=chunk,
        sharding=before.head_sharding,
    )
    count = jnp.maximum(rows.response_mask.sum(dtype=jnp.float32), 1.0)
    return per_token.sum(dtype=jnp.float32) / count


def _every(batch: Experience, stride: int) -> Experience:
    """Some rows with what the student reads; prompts that rows share stay whole."""
    own = {"response": batch.response, "response_mask": batch.response_mask}
    if batch.prompt_owner is None:
        own |= {"prompt": batch.prompt, "prompt_mask": batch.prompt_mask}
    else:
        own |= {"prompt_owner": batch.prompt_owner}
    return batch._replace(**{name: x[::stride] for name, x in own.items()})
