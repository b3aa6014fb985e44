"""Enumerates all minibatches with their probabilities."""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pgpo_jax.errors import PGPOValueError

_MOST_BATCHES = 200_000


class Minibatches(NamedTuple):
    """All distinct minibatches of a finite sum.

    Attributes:
        fractions: share of example n in each minibatch; rows sum to one.
        probabilities: probability of each minibatch; they sum to one.
        examples: the indices of its examples, in rising order.
    """

    fractions: Float[np.ndarray, "M N"]
    probabilities: Float[np.ndarray, " M"]
    examples: Int[np.ndarray, "M B"]


def check_batch(num_examples: int, batch_size: int, replace: bool) -> None:
    """Refuse a minibatch size that cannot be drawn."""
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise PGPOValueError(f"batch_size must be a positive integer, got {batch_size!r}")
    if not replace and batch_size > num_examples:
        raise PGPOValueError(
            f"batch_size must be at most N={num_examples} when drawing without replacement, "
            f"got {batch_size}"
        )


def covariance_factor(num_examples: int, batch_size: int, replace: bool) -> float:
    r"""f/|B| of $\Sigma_B = (f/|B|)\,\Sigma$: 1/|B|, or (N-|B|)/(|B|(N-1)) without replacement."""
    check_batch(num_examples, batch_size, replace)
    if replace:
        return 1.0 / batch_size
    if batch_size == num_examples:
        return 0.0
    return (num_examples - batch_size) / (batch_size * (num_examples - 1))


@functools.lru_cache(maxsize=64)
def minibatches(num_examples: int, batch_size: int = 1, replace: bool = True) -> Minibatches:
    r"""Enumerate the minibatches of `batch_size` out of `num_examples` examples.

    With replacement they are the multisets, of probability $\frac{|B|!}{\prod_n m_n!} N^{-|B|}$;
    without, the subsets, all equally likely.

    Args:
        num_examples: N.
        batch_size: |B|.
        replace: whether an example may be drawn twice.

    Returns:
        `Minibatches` of arrays `[M, N]`, `[M]` and `[M, |B|]`.

    Raises:
        ValueError: a size that cannot be drawn, or more than 200000 minibatches.

    >>> batches = minibatches(2, 2)
    >>> batches.fractions.tolist(), batches.probabilities.tolist()
    ([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], [0.25, 0.5, 0.25])
    """
    check_batch(num_examples, batch_size, replace)
    if replace:
        count = math.comb(num_examples + batch_size - 1, batch_size)
        drawn = itertools.combinations_with_replacement(range(num_examples), batch_size)
    else:
        count = math.comb(num_examples, batch_size)
        drawn = itertools.combinations(range(num_examples), batch_size)
    if count > _MOST_BATCHES:
        raise PGPOValueError(
            f"N={num_examples}, |B|={batch_size} has {count} minibatches; enumeration stops at "
            f"{_MOST_BATCHES}. Use a smaller batch_size."
        )
    chosen = np.array(list(drawn), dtype=np.int64)
    counts = np.zeros((count, num_examples))
    np.add.at(counts, (np.arange(count)[:, None], chosen), 1.0)
    if replace:
        # Integer arithmetic, so that the probabilities are exact up to one rounding.
        orders, total = math.factorial(batch_size), num_examples**batch_size
        table = np.array([math.factorial(k) for k in range(batch_size + 1)], dtype=object)
        weights = (orders // np.prod(table[counts.astype(np.int64)], axis=1) / total).astype(float)
    else:
        weights = np.full(count, 1.0 / count)
    return Minibatches(counts / batch_size, weights, chosen)
