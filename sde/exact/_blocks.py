"""Compiled functions of many points, in blocks of one size, so that each is compiled once."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Array, Float

# Points evaluated at once.
BLOCK = 256
# Numbers that are held at once.
_HELD = 1 << 20


def block_of(numbers: int) -> int:
    """How many points to evaluate at once, when each needs so many numbers.

    >>> block_of(1), block_of(1 << 16)
    (256, 16)
    """
    return max(1, min(BLOCK, _HELD // max(1, numbers)))


def in_blocks(
    run: Callable[[Float[np.ndarray, "block m"]], Sequence[Array]],
    states: Float[np.ndarray, "P m"],
    block: int = BLOCK,
) -> list[Float[np.ndarray, "P ..."]]:
    """What `run` returns of blocks of states, joined; the last block is filled up."""
    missing = -len(states) % block
    padded = np.concatenate([states, np.repeat(states[:1], missing, axis=0)])
    parts = [run(some) for some in padded.reshape(-1, block, states.shape[1])]
    return [
        np.concatenate([np.asarray(part) for part in out])[: len(states)]
        for out in zip(*parts, strict=True)
    ]
