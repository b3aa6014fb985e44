"""Cuts [B, T] tokens into equal chunks for a scan, without moving them between devices."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Shaped

from pgpo_jax.errors import PGPOValueError


class ChunkLayout(NamedTuple):
    """`number` chunks of `rows * length` tokens each, with the token dimension padded to fit.

    A chunk takes every `number`-th token of every row. So a batch that is sharded over rows is not
    moved, and every device works on every chunk. Consecutive pieces of the flattened tokens would
    not have these properties.
    """

    batch: int
    tokens: int
    rows: int
    length: int
    number: int

    def split(self, x: Shaped[Array, "B T *rest"]) -> Shaped[Array, "n rows length *rest"]:
        """[B, T, ...] -> [number, rows, length, ...], padded with zeros."""
        rest = x.shape[2:]
        x = x.reshape(self.rows, -1, *rest)
        missing = self.number * self.length - x.shape[1]
        if missing:
            x = jnp.pad(x, ((0, 0), (0, missing), *((0, 0) for _ in rest)))
        return jnp.moveaxis(x.reshape(self.rows, self.length, self.number, *rest), 2, 0)

    def join(self, x: Shaped[Array, "n rows length *rest"]) -> Shaped[Array, "B T *rest"]:
        """The inverse of `split`."""
        rest = x.shape[3:]
        x = jnp.moveaxis(x, 0, 2).reshape(self.rows, self.number * self.length, *rest)
        per_row = self.batch * self.tokens // self.rows
        return x[:, :per_row].reshape(self.batch, self.tokens, *rest)


def chunk_layout(batch: int, tokens: int, chunk_size: int) -> ChunkLayout:
    """Chunks of about `chunk_size` tokens. Each holds all rows unless there are too many rows.

    Raises:
        ValueError: chunk_size below 1.
    """
    if chunk_size < 1:
        raise PGPOValueError(f"chunk_size must be at least 1 token, got {chunk_size!r}.")
    rows = batch if batch <= chunk_size else 1
    per_row = batch * tokens // rows
    length = max(1, min(per_row, chunk_size // rows))
    number = max(1, math.ceil(per_row / length))
    # The chunks are as even as their number allows, which needs less padding.
    return ChunkLayout(batch, tokens, rows, max(1, math.ceil(per_row / number)), number)
