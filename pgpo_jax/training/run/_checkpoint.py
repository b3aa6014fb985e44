import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32
from orbax.checkpoint import v1 as ocp

from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.training.update._state import TrainState

_ITEM = "state"
# Beside the arrays and not one of them: what their bits were when they were saved.
_DIGEST = "digest"


class Checkpoints:
    """The checkpoints of a run: a `TrainState` but for what is frozen, one folder per step, written
    atomically.

    A save that fails leaves the older checkpoints as they were. Use as a context manager.

    Args:
        folder: an absolute path; created if need be. What a killed process left half-written in it
            is removed, so no other process may be writing there.
        keep: how many of the newest remain.
    """

    def __init__(self, folder: Path, *, keep: int = 2):
        training = ocp.training
        self._checkpointer = training.Checkpointer(
            folder,  # pyright: ignore[reportArgumentType]  (orbax's own PathLike)
            preservation_policy=training.preservation_policies.LatestN(keep),  # pyright: ignore[reportArgumentType]
            # What a killed process left half-written is never a checkpoint.
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for what is being written, and gives the folder free."""
        self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """The newest complete step, or `None`."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def save(self, state: TrainState) -> None:
        """Writes the state under its own step and waits until it is complete on disk."""
        step = int(state.step)
        if step != self.latest:
            arrays = _named(state)
            saved = {_ITEM: arrays | {_DIGEST: _digest(arrays)}}
            self._checkpointer.save_checkpointables(step, saved, force=True)

    def restore(self, template: TrainState) -> TrainState:
        """Reads the newest checkpoint into the structure, types and layout of `template`.

        Args:
            template: a state, which stays as it is, or what `free_buffers` makes of it where there
                is no room for two. What is frozen is taken over from it.

        Raises:
            FileNotFoundError: if there is no checkpoint.
            ValueError: naming the first array that differs, if it belongs to another model or its
                bits are not those that were saved; or if it cannot be read. An older checkpoint is
                never taken in its place unasked.
        """
        step = self.latest
        if step is None:
            raise PGPOFileNotFoundError(f"no checkpoint in {self._checkpointer.directory}")
        wanted = _named(template) | {_DIGEST: _no_digest(template)}
        with self._readable(step):
            saved = self._checkpointer.checkpointables_metadata(step).metadata[_ITEM]
        self._compare(wanted, saved, step)
        abstract = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in wanted.items()
        }
        with self._readable(step):
            loaded = self._checkpointer.load_checkpointables(step, {_ITEM: abstract})[_ITEM]
        digest = np.asarray(loaded.pop(_DIGEST))
        for name, same in zip(sorted(loaded), digest == np.asarray(_digest(loaded)), strict=True):
            if not same:
                raise self._damaged(step, f"has other bits in {name} than were saved")
        leaves = [loaded[name] for name in _named(template)]
        structure = jax.tree.structure(template._replace(frozen=None))
        return jax.tree.unflatten(structure, leaves)._replace(frozen=template.frozen)

    @contextmanager
    def _readable(self, step: int) -> Iterator[None]:
        try:
            yield
        # What orbax and tensorstore raise on a broken file is no part of their interfaces.
        except Exception as error:
            cause = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
            raise self._damaged(step, f"cannot be read ({cause})") from error

    def _damaged(self, step: int, what: str) -> ValueError:
        older = [x.step for x in self._checkpointer.checkpoints if x.step < step]
        advice = f"the run goes on from step {older[-1]}" if older else "there is no other"
        return PGPOValueError(
            f"checkpoint {step} in {self._checkpointer.directory} {what}. "
            f"If it is damaged: without its folder {advice}"
        )

    def _compare(self, wanted: dict[str, Any], saved: dict[str, Any], step: int) -> None:
        where = f"checkpoint {step} in {self._checkpointer.directory}"
        # The digest last: another number of arrays is better told by the arrays.
        for name in sorted(wanted.keys() | saved.keys(), key=lambda name: (name == _DIGEST, name)):
            if name not in saved:
                raise PGPOValueError(f"{where} lacks {name}, which this run's state has")
            if name not in wanted:
                raise PGPOValueError(f"{where} has {name}, which this run's state lacks")
            got = (tuple(saved[name].shape), jnp.dtype(saved[name].dtype))
            want = (wanted[name].shape, wanted[name].dtype)
            if got != want:
                raise PGPOValueError(f"{where}: {name} is {got}, this run's state has {want}")


def free_buffers(state: TrainState) -> TrainState:
    """The shapes and layout of a state, whose memory is given back, but for what is frozen."""

    def release(leaf: Any) -> jax.ShapeDtypeStruct:
        shape = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
        leaf.delete()
        return shape

    return jax.tree.map(release, state._replace(frozen=None))._replace(frozen=state.frozen)


def _named(state: TrainState) -> dict[str, Any]:
    """The arrays of a state that change, by path: the files do not depend on Python classes."""
    paths = jax.tree_util.tree_flatten_with_path(state._replace(frozen=None))[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def _digest(arrays: dict[str, Array]) -> UInt32[Array, " arrays"]:
    """The sum of the bits of each array, by sorted name: the same however they are laid out."""
    return jax.jit(_sums, out_shardings=arrays["step"].sharding)(arrays)


def _sums(arrays: dict[str, Array]) -> UInt32[Array, " arrays"]:
    def digest(array: Array) -> UInt32[Array, ""]:
        unsigned = jnp.dtype(f"uint{8 * array.dtype.itemsize}")
        bits = jax.lax.bitcast_convert_type(array, unsigned)
        return jnp.sum(bits.astype(jnp.uint32), dtype=jnp.uint32)

    return jnp.stack([digest(arrays[name]) for name in sorted(arrays)])


def _no_digest(state: TrainState) -> jax.ShapeDtypeStruct:
    """The shape of a digest, held where the scalars of a state are."""
    number = len(_named(state))
    return jax.ShapeDtypeStruct((number,), jnp.uint32, sharding=state.step.sharding)
