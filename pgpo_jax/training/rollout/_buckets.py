from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from pgpo_jax.errors import PGPOValueError


def bucket(length: int, *, smallest: int, largest: int) -> int:
    """The first of smallest, 2 smallest, 4 smallest, ..., largest that is at least `length`.

    >>> [bucket(n, smallest=64, largest=200) for n in (1, 65, 129, 200)]
    [64, 128, 200, 200]
    """
    if not 0 <= length <= largest:
        raise PGPOValueError(f"a length must be in [0, {largest}], got {length}")
    rung = min(smallest, largest)
    while rung < length:
        rung = min(2 * rung, largest)
    return rung


def pad(
    rows: Sequence[Sequence[int]], *, count: int, width: int, fill: int, side: str
) -> tuple[Int[np.ndarray, "count width"], Bool[np.ndarray, "count width"]]:
    """Pack ragged rows into one block; missing rows and cells are `fill` with a false mask."""
    tokens = np.full((count, width), fill, np.int32)
    mask = np.zeros((count, width), bool)
    for i, row in enumerate(rows):
        cells = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        tokens[i, cells] = row
        mask[i, cells] = True
    return tokens, mask
