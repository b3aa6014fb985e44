"""Counts decoding work: a row-step is one row fed one token, whether its response goes on."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass
class RowSteps:
    """What was counted.

    Attributes:
        total: rows of the batch times steps, summed over the stretches of decoding.

    Added in version 0.2.0.
    """

    total: int = 0


_COUNTS: contextvars.ContextVar[RowSteps | None] = contextvars.ContextVar("row_steps", default=None)


@contextlib.contextmanager
def counted_row_steps() -> Iterator[RowSteps]:
    """Counts the row-steps of every `sample` inside, except those inside `jax.jit`.

    Yields:
        The count, which grows.

    >>> with counted_row_steps() as work:
    ...     pass  # sample(...)
    >>> work.total
    0

    Added in version 0.2.0.
    """
    count = RowSteps()
    token = _COUNTS.set(count)
    try:
        yield count
    finally:
        _COUNTS.reset(token)


def count_row_steps(rows: int, steps: int) -> None:
    """Adds a stretch to the count that is open, if one is.

    Args:
        rows: of the batch that was decoded.
        steps: tokens that each was fed.
    """
    count = _COUNTS.get()
    if count is not None:
        count.total += rows * steps
