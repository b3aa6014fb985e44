"""Counts decoding work in row-steps: one row fed one token, even if its response has ended."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass
class RowSteps:
    """A count of row-steps.

    Attributes:
        total: number of rows of the batch times steps, summed over the stretches of decoding.

    Added in version 0.2.0.
    """

    total: int = 0


_COUNTS: contextvars.ContextVar[RowSteps | None] = contextvars.ContextVar("row_steps", default=None)


@contextlib.contextmanager
def counted_row_steps() -> Iterator[RowSteps]:
    """Count the row-steps of every `sample` inside the block, except inside `jax.jit`.

    Yields:
        The count, which increases while the block runs.

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
    """Add a stretch to the open count, if there is one.

    Args:
        rows: rows of the batch that was decoded.
        steps: number of tokens that each row was fed.
    """
    count = _COUNTS.get()
    if count is not None:
        count.total += rows * steps
