"""Compiled functions of many points, in blocks of one size, so that each is compiled once."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Array, Float

# Points evaluated at once.
BLOCK = 256


def in_blocks(
    run: Callable[[Float[np.ndarray, "block m"]], Sequence[Array]],
    states: Float[np.ndarray, "P m"],
) -> list[Float[np.ndarray, "P ..."]]:
    """What `run` returns of blocks of states, joined; the last block is filled up."""
    missing = -len(states) % BLOCK
    padded = np.concatenate([states, np.repeat(states[:1], missing, axis=0)])
    parts = [run(block) for block in padded.reshape(-1, BLOCK, states.shape[1])]
    return [
        np.concatenate([np.asarray(part) for part in out])[: len(states)]
        for out in zip(*parts, strict=True)
    ]
