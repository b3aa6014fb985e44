"""How far an update moves the policy."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from pgpo_jax.distillation import head_divergences
from pgpo_jax.models._sharding import axis_parts
from pgpo_jax.training.objectives._models import Models, student_states
from pgpo_jax.training.rollout._batch import Experience

STRIDE = 8
"""At most one row of so many is measured: two passes of about an eighth of the rows."""


def policy_movement(
    before: Models, after: Any, batch: Experience, *, chunk: int = 512
) -> Float[Array, ""]:
    """KL divergence per token of the policy after an update from the policy before, in nats.

    It is the mean over the response tokens of every eighth row, or of more rows where an eighth of
    them could not be spread over the mesh. Nothing is differentiated.

    Args:
        before: the models before the update.
        after: weights of the student after it.
        batch: all rows of the step.
        chunk: tokens that go through the heads at a time.

    Returns:
        A scalar; 0 if these rows have no response token.
    """
    mesh = getattr(nnx.merge(before.graphdef, before.student), "mesh", None)
    rows = _every(batch, stride(batch.response.shape[0], axis_parts("batch", mesh)))
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


def stride(rows: int, parts: int) -> int:
    """The largest stride up to 8 that divides the rows and leaves a multiple of `parts`.

    >>> stride(64, 1), stride(8, 4), stride(12, 1)
    (8, 2, 6)
    """
    return max(
        (n for n in range(1, STRIDE + 1) if rows % n == 0 and rows // n % parts == 0), default=1
    )


def _every(batch: Experience, stride: int) -> Experience:
    """Some rows with what the student reads; prompts that rows share stay whole."""
    own = {"response": batch.response, "response_mask": batch.response_mask}
    if batch.prompt_owner is None:
        own |= {"prompt": batch.prompt, "prompt_mask": batch.prompt_mask}
    else:
        own |= {"prompt_owner": batch.prompt_owner}
    return batch._replace(**{name: x[::stride] for name, x in own.items()})
