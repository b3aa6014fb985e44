"""From per-token losses to the loss of a batch, with SDPO's denominators."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, ScalarLike

from pgpo_jax._reduce import Mask, SequenceMask, mean_of, pooled
from pgpo_jax.errors import PGPOValueError


def aggregate(
    per_token: Float[Array, "B T"],
    response_mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    reduction: str | None = None,
    num_sequences: ScalarLike | None = None,
    num_tokens: ScalarLike | None = None,
    mode: str | None = None,
) -> Float[Array, ""]:
    r"""One loss from a loss per token.

    `"sequence_mean"` is the reduction of SDPO, although its option has another name:

    $$L = \frac1N \sum_{i=1}^N m_i\, \frac{1}{|y_i|} \sum_t \ell_{it}$$

    N counts *all* sequences, including those without a teacher signal (m_i = 0). So a batch with
    few signals makes a small step. `"sequence_sum"` leaves out the factor 1/|y_i|. `"token_mean"`
    divides the sum over all valid tokens by their number. Masked values are ignored, NaN included.

    Args:
        per_token: loss at each token.
        response_mask: response tokens (nonzero: counts).
        sequence_mask: sequences with a teacher signal; all of them if omitted.
        reduction: `"sequence_mean"` (if omitted), `"token_mean"` or `"sequence_sum"`.
        num_sequences: N, if it is not B. This is the case when masked rows were dropped before the
            forward pass, or for a micro-batch of a larger batch. The losses of the micro-batches
            then add up to the loss of the batch.
        num_tokens: the same for the denominator of `"token_mean"`.
        mode: another name of `reduction`; give one of the two.

    Returns:
        The loss; 0 with zero gradient if nothing counts.

    Raises:
        ValueError: an unknown reduction, shapes that do not match, a denominator that the
            reduction does not use, or both `reduction` and `mode`.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> losses = jnp.array([[1.0, 3.0], [5.0, jnp.nan]])
    >>> mask = jnp.array([[1, 1], [1, 0]])
    >>> float(pgpo.distillation.aggregate(losses, mask))
    3.5
    >>> float(pgpo.distillation.aggregate(losses, mask, jnp.array([1, 0])))
    1.0
    """
    if reduction is not None and mode is not None:
        raise PGPOValueError(
            "reduction and mode are two names of one argument, so only one may be given; got "
            f"reduction={reduction!r} and mode={mode!r}."
        )
    if reduction is None:
        reduction = "sequence_mean" if mode is None else mode
    total, count = pooled(per_token, response_mask, sequence_mask, reduction)
    if reduction == "token_mean":
        if num_sequences is not None:
            raise PGPOValueError(
                "num_sequences has no part in reduction='token_mean'; give num_tokens."
            )
        return mean_of(total, count if num_tokens is None else jnp.asarray(num_tokens))
    if num_tokens is not None:
        raise PGPOValueError(
            f"num_tokens has no part in reduction={reduction!r}; give num_sequences."
        )
    return mean_of(
        total, jnp.asarray(per_token.shape[0] if num_sequences is None else num_sequences)
    )


def token_coefficients(
    mask: Mask, sequence_mask: SequenceMask | None, dtype: jnp.dtype, **denominators: Any
) -> Float[Array, "B T"]:
    """The coefficient of each token's loss in `aggregate`, which is linear in the losses."""
    aggregated = partial(aggregate, response_mask=mask, sequence_mask=sequence_mask, **denominators)
    return jax.grad(aggregated)(jnp.zeros(mask.shape, dtype))
