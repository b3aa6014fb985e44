"""Reduces numbers per token to one number per batch, for the signal and the loss."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from pgpo_jax._precision import at_least_float32
from pgpo_jax._shapes import check_reduced
from pgpo_jax.errors import PGPOValueError

Reduction = Literal["sequence_mean", "token_mean", "sequence_sum"]
Mask = Shaped[Array, "B T"]
SequenceMask = Shaped[Array, "B"]
REDUCTIONS = ("sequence_mean", "token_mean", "sequence_sum")
"""The values of `reduction`, in every function that has this argument.

Added in version 0.2.0.
"""


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise PGPOValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")


def valid_tokens(mask: Mask, sequence_mask: SequenceMask | None) -> Bool[Array, "B T"]:
    """The tokens that count: those in the mask, in a sequence that counts."""
    valid = mask.astype(bool)
    return valid if sequence_mask is None else valid & sequence_mask.astype(bool)[:, None]


def pooled(
    per_token: Float[Array, "B T"],
    mask: Mask,
    sequence_mask: SequenceMask | None,
    reduction: str,
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The sum and the count whose quotient is the mean of `reduction`.

    Add the sums and the counts to pool micro-batches. The count is the number of sequences with a
    valid token, or of valid tokens for `token_mean`. Masked values are ignored, NaN included.
    """
    check_choice("reduction", reduction, REDUCTIONS)
    check_reduced(per_token, mask, sequence_mask)
    dtype = at_least_float32(per_token.dtype)
    valid = valid_tokens(mask, sequence_mask)
    values = jnp.where(valid, per_token.astype(dtype), 0.0)
    tokens = jnp.sum(valid, axis=1, dtype=jnp.int32)
    if reduction == "token_mean":
        return jnp.sum(values), jnp.sum(tokens, dtype=jnp.int32)
    sums = jnp.sum(values, axis=1)
    if reduction == "sequence_mean":
        sums = sums / jnp.maximum(tokens, 1).astype(dtype)
    return jnp.sum(sums), jnp.sum(tokens > 0, dtype=jnp.int32)


def mean_of(total: Float[Array, ""], count: Shaped[Array, ""]) -> Float[Array, ""]:
    """`total / count`, or 0 if the count is 0."""
    return total / jnp.maximum(count.astype(total.dtype), 1.0)


def mean_over(
    per_token: Float[Array, "B T"],
    mask: Mask,
    sequence_mask: SequenceMask | None = None,
    reduction: str = "sequence_mean",
) -> Float[Array, ""]:
    """The mean of a number per token over one whole batch, as the estimators of I define it.

    The mean is over the sequences that have a valid token. The loss
    (`pgpo_jax.distillation.aggregate`) divides by all sequences instead.

    Args:
        per_token: a number for each token, for example nats from a row of `ESTIMATORS`.
        mask: response tokens (nonzero: counts). Values off the mask are ignored.
        sequence_mask: sequences that count; all of them if omitted.
        reduction: `"sequence_mean"`, `"token_mean"` or `"sequence_sum"`, see
            `pgpo_jax.information.entropy_gain`.

    Returns:
        The mean, float32 (float64 for float64 numbers); 0 if nothing counts.

    Raises:
        ValueError: unknown reduction, or shapes that do not match.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> values, mask = jnp.array([[1.0, 3.0], [5.0, jnp.nan]]), jnp.array([[1, 1], [1, 0]])
    >>> float(pgpo.information.mean_over(values, mask))
    3.5
    >>> float(pgpo.information.mean_over(values, mask, reduction="token_mean"))
    3.0

    Added in version 0.2.0.
    """
    return mean_of(*pooled(per_token, mask, sequence_mask, reduction))
