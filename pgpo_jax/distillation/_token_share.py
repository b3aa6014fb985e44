"""The tokens of a batch with the largest values of some number."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._reduce import Mask
from pgpo_jax.errors import PGPOValueError


def share_threshold(
    values: Float[Array, "B T"], mask: Mask, share: float | int
) -> Float[Array, ""]:
    """The threshold that only the largest `share` of all valid tokens reach.

    It lies halfway between the smallest of these values and the largest of the others. So another
    order of summation does not move a token across it. Equal values are on the same side, so more
    than the share may reach the threshold.

    Args:
        values: a number per token of the whole batch.
        mask: tokens that count (nonzero). Values off the mask are ignored.
        share: share of the valid tokens, in (0, 1], rounded to whole tokens, at least one.

    Returns:
        The threshold; -inf if all tokens reach it.

    Raises:
        ValueError: a share outside (0, 1].

    >>> import jax.numpy as jnp
    >>> values, mask = jnp.array([[1.0, 4.0, 9.0, 2.0]]), jnp.array([[1, 1, 0, 1]])
    >>> float(share_threshold(values, mask, 0.3)), float(share_threshold(values, mask, 1))
    (3.0, -inf)

    Added in version 0.2.0.
    """
    if not 0 < share <= 1:
        raise PGPOValueError(f"share must be above 0 and at most 1, got {share!r}.")
    valid = mask.astype(bool)
    falling = -jnp.sort(-jnp.where(valid, values, -jnp.inf).ravel())
    # One more value, so that the largest of the others is included.
    falling = jnp.concatenate([falling, jnp.full(1, -jnp.inf, falling.dtype)])
    count = valid.sum(dtype=jnp.int32).astype(falling.dtype)
    kept = jnp.maximum(jnp.floor(count * jnp.asarray(share, falling.dtype) + 0.5), 1.0)
    last = kept.astype(jnp.int32) - 1
    return (falling[last] + falling[last + 1]) / 2
