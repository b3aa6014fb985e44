"""Storage of keys and values while responses are decoded, for prompts and for rows."""

from __future__ import annotations

import functools as ft
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from pgpo_jax.models._sharding import constrain, target_platform

# Keys are stored transposed, so that both products of attention read their cache along rows.
KEY_AXES = ("batch", "kv_heads", "head_dim", "length")
VALUE_AXES = ("batch", "kv_heads", "length", "head_dim")

# Length of the side of a tile, on TPU and GPU.
_TILE = 128


class Prompt(NamedTuple):
    """Keys and values of the prompts: stored once per prompt and shared by its samples."""

    keys: tuple[Float[Array, "B K H P"], ...]
    values: tuple[Float[Array, "B K P H"], ...]
    mask: Bool[Array, "B P"]
    length: Int[Array, " B"]

    def taken(self, index: Int[Array, " R"], mesh: Mesh | None) -> Prompt:
        """The prompts at `index`, repeated so that each of R rows has its own."""
        return Prompt(
            tuple(constrain(x[index], KEY_AXES, mesh) for x in self.keys),
            tuple(constrain(x[index], VALUE_AXES, mesh) for x in self.values),
            self.mask[index],
            self.length[index],
        )


class Cache(NamedTuple):
    """Keys and values of each row, one pair of arrays per layer. A step never copies them.

    The first F of the L slots hold the row's prompt, and the others hold generated tokens. F is 0
    where prompts are stored apart, to be shared.
    """

    keys: tuple[Float[Array, "R K H L"], ...]
    values: tuple[Float[Array, "R K L H"], ...]
    prefix: Bool[Array, "R F"]

    @property
    def slots(self) -> int:
        """Number of generated tokens that fit."""
        return self.values[0].shape[2] - self.prefix.shape[1]

    def filled(self, tokens: Int[Array, ""]) -> Bool[Array, "R L"]:
        """The slots that may be read after so many tokens have been written."""
        written = jnp.arange(self.slots, dtype=jnp.int32) < tokens
        written = jnp.broadcast_to(written, (self.prefix.shape[0], self.slots))
        return jnp.concatenate([self.prefix, written], axis=1)

    def even_slots(self, slots: int, mesh: Mesh | None) -> int:
        """`slots`, rounded up to whole tiles on an accelerator.

        If a length is no multiple of a tile, XLA for TPU gives the argument another layout than the
        loop over it. It then copies every cache before and after the loop. Tensor cores also need
        an even length.
        """
        if target_platform(mesh) == "cpu":
            return slots
        return slots + -(self.prefix.shape[1] + slots) % _TILE

    def grown(self, slots: int, mesh: Mesh | None) -> Cache:
        """The same contents with room for `slots` tokens.

        The old arrays are freed one by one, so that two whole caches never exist at once."""
        more = slots - self.slots
        return self._replace(
            keys=tuple(_given_up(x, _wider(x, more, 3, KEY_AXES, mesh)) for x in self.keys),
            values=tuple(_given_up(x, _wider(x, more, 2, VALUE_AXES, mesh)) for x in self.values),
        )

    def unrolled(self, slot: int, mesh: Mesh | None) -> Cache:
        """A ring buffer rotated so that its oldest slot, `slot`, is the first one."""
        return self._replace(
            keys=tuple(_given_up(x, _rolled(x, slot, 3, KEY_AXES, mesh)) for x in self.keys),
            values=tuple(_given_up(x, _rolled(x, slot, 2, VALUE_AXES, mesh)) for x in self.values),
        )

    def written(self, new: NewToken, slot: Int[Array, ""], mesh: Mesh | None) -> Cache:
        """The cache with one more token per row, in the given slot."""
        place = slot + self.prefix.shape[1]

        def write(x: Array, token: Array, axis: int, names: tuple[str, ...]) -> Array:
            token = jnp.expand_dims(token, axis).astype(x.dtype)
            return constrain(
                jax.lax.dynamic_update_slice_in_dim(x, token, place, axis), names, mesh
            )

        return self._replace(
            keys=tuple(write(*pair, 3, KEY_AXES) for pair in zip(self.keys, new.keys, strict=True)),
            values=tuple(
                write(*pair, 2, VALUE_AXES) for pair in zip(self.values, new.values, strict=True)
            ),
        )

    def taken(self, index: Int[Array, " S"], mesh: Mesh | None) -> Cache:
        """The rows at `index`."""
        return Cache(
            tuple(constrain(x[index], KEY_AXES, mesh) for x in self.keys),
            tuple(constrain(x[index], VALUE_AXES, mesh) for x in self.values),
            self.prefix[index],
        )


class NewToken(NamedTuple):
    """Keys and values of the token that was fed to the model, per layer."""

    keys: tuple[Float[Array, "R K H"], ...]
    values: tuple[Float[Array, "R K H"], ...]


def start_cache(prompt: Prompt, samples: int) -> tuple[Prompt, Cache]:
    """Decides where the prompts are stored while their samples are decoded.

    Args:
        prompt: prompts as `prefill` returns them.
        samples: rows per prompt, G.

    Returns:
        Prompts that their rows share, and a cache without slots. If each prompt has one row only,
        the prompts are without tokens and the cache begins with them. Attention is then one pair of
        products instead of two.
    """
    rows = prompt.mask.shape[0]
    nothing = prompt._replace(
        keys=tuple(x[..., :0] for x in prompt.keys),
        values=tuple(x[:, :, :0] for x in prompt.values),
        mask=prompt.mask[:, :0],
    )
    if samples == 1:
        return nothing, Cache(prompt.keys, prompt.values, prompt.mask)
    return prompt, Cache(
        tuple(jnp.repeat(x, samples, axis=0) for x in nothing.keys),
        tuple(jnp.repeat(x, samples, axis=0) for x in nothing.values),
        jnp.zeros((rows * samples, 0), jnp.bool_),
    )


@ft.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _wider(x: Array, more: int, axis: int, names: tuple[str, ...], mesh: Mesh | None) -> Array:
    pad = [(0, more if i == axis else 0) for i in range(x.ndim)]
    # The layout is set here, because an empty cache has none to keep.
    return constrain(jnp.pad(x, pad), names, mesh)


@ft.partial(jax.jit, static_argnums=(2, 3, 4))
def _rolled(x: Array, slot: Any, axis: int, names: tuple[str, ...], mesh: Mesh | None) -> Array:
    return constrain(jnp.roll(x, -slot, axis), names, mesh)


def _given_up(old: Array, new: Array) -> Array:
    # Donation would save no more, and it warns of an array whose memory cannot be reused.
    if not isinstance(old, Tracer):
        old.delete()
    return new


def cache_dtype(dtype: Any, mesh: Mesh | None) -> Any:
    """The dtype in which keys and values are stored.

    XLA for CPU multiplies in float32 only, so it would convert a 16-bit cache at every step.

    Args:
        dtype: dtype in which the model computes.
        mesh: mesh of the model, or None.

    Returns:
        The same, or float32 on a CPU.
    """
    return jnp.float32 if target_platform(mesh) == "cpu" else dtype
