"""Maps the rows of a decoding step to the prompts they continue and the slots they fill."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pgpo_jax.models._cache import Cache, Prompt


@runtime_checkable
class Rows(Protocol):
    """The questions that a decoding step asks about its rows."""

    def position(self, prompt: Prompt, rows: int) -> Int[Array, "R 1"]:
        """Position of the token that is fed, counted from the first token of the prompt."""
        ...

    def readable(self, cache: Cache) -> Bool[Array, "R L"]:
        """The slots of the cache that hold tokens of the row's own response."""
        ...

    def by_prompt(self, x: Float[Array, "R K q _"], count: int) -> Float[Array, "B K Gq _"]:
        """Arrange numbers of rows by the prompt that each row continues."""
        ...

    def by_row(self, x: Float[Array, "B K Gq _"], rows: int) -> Float[Array, "R K q _"]:
        """The inverse of `by_prompt`."""
        ...


class Aligned(NamedTuple):
    """Rows that began together. Row b * G + g continues prompt b.

    Attributes:
        written: number of tokens that each row was fed before.
    """

    written: Int[Array, ""]

    def position(self, prompt: Prompt, rows: int) -> Int[Array, "R 1"]:
        """The same count for every row, after its prompt."""
        samples = rows // prompt.mask.shape[0]
        return jnp.repeat(prompt.length, samples)[:, None] + self.written

    def readable(self, cache: Cache) -> Bool[Array, "R L"]:
        """The slots that have been written."""
        return cache.filled(self.written)

    def by_prompt(self, x: Float[Array, "R K q _"], count: int) -> Float[Array, "B K Gq _"]:
        """Samples become further queries of one prompt."""
        return _by_prompt(x, count)

    def by_row(self, x: Float[Array, "B K Gq _"], rows: int) -> Float[Array, "R K q _"]:
        """Split the queries of a prompt into its samples."""
        return _by_row(x, rows)


class Lanes(NamedTuple):
    """Rows that began at different times, each in a lane of the batch.

    Each prompt has G seats, one for each of its samples. A lane takes the seat of the response that
    it writes. So a prompt is read once for all lanes that continue it. All lanes write the same
    slot of a ring buffer. A lane may read the last `fed` slots, which are its own.

    Attributes:
        fed: number of tokens that each lane's response was fed before.
        slot: slot that all lanes write next. The ring has as many slots as the cache.
        seat: seat of each lane.
        lane: lane in each of the B * G seats; any number in an empty seat.
        parts: number of parts into which a mesh cuts lanes and prompts. A lane and its seat are in
            the same part, so that nothing moves between devices.
    """

    fed: Int[Array, " R"]
    slot: Int[Array, ""]
    seat: Int[Array, " R"]
    lane: Int[Array, " S"]
    parts: int

    def position(self, prompt: Prompt, rows: int) -> Int[Array, "R 1"]:
        """The count of each lane."""
        seats = self.lane.shape[0] // prompt.mask.shape[0]
        length = moved(jnp.repeat(prompt.length, seats), self.seat, self.parts)
        return (length + self.fed)[:, None]

    def readable(self, cache: Cache) -> Bool[Array, "R L"]:
        """The last slots, one for each token that the lane's response was fed."""
        slots = cache.slots
        age = (self.slot - 1 - jnp.arange(slots, dtype=jnp.int32)) % slots
        return age < self.fed[:, None]

    def by_prompt(self, x: Float[Array, "R K q _"], count: int) -> Float[Array, "B K Gq _"]:
        """The numbers of each lane in its seat. Empty seats have those of any lane."""
        return _by_prompt(moved(x, self.lane, self.parts), count)

    def by_row(self, x: Float[Array, "B K Gq _"], rows: int) -> Float[Array, "R K q _"]:
        """The numbers in each lane's seat."""
        return moved(_by_row(x, self.lane.shape[0]), self.seat, self.parts)


def _by_prompt(x: Array, count: int) -> Array:
    """[B * G, K, rep, ...] -> [B, K, G * rep, ...]: samples become queries of one prompt."""
    rows, heads = x.shape[:2]
    split = x.reshape(count, rows // count, heads, -1, x.shape[-1]).swapaxes(1, 2)
    return split.reshape(count, heads, -1, x.shape[-1])


def _by_row(x: Array, rows: int) -> Array:
    """The inverse of `_by_prompt`."""
    count, heads = x.shape[:2]
    split = x.reshape(count, heads, rows // count, -1, x.shape[-1]).swapaxes(1, 2)
    return split.reshape(rows, heads, -1, x.shape[-1])


def moved(x: Array, index: Int[Array, " M"], parts: int) -> Array:
    """`x[index]` for an index that takes each part of the result from the same part of `x`.

    Args:
        x: array in parts of equal size.
        index: index into all of `x`.
        parts: number of parts over a mesh; 1 on one device.

    Returns:
        The rows at `index`.
    """
    size = x.shape[0] // parts

    def of_part(x: Array, index: Array) -> Array:
        return x.at[index].get(mode="promise_in_bounds")

    moved = jax.vmap(of_part)(
        x.reshape(parts, size, *x.shape[1:]), (index % size).reshape(parts, -1)
    )
    return moved.reshape(-1, *x.shape[1:])
