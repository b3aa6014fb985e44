"""Writes, checks and reads checkpoints."""

import hashlib
import json
import logging
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.paths import local_path
from pgpo_jax.training.devices._processes import is_first
from pgpo_jax.training.run._digest import digests, former_digest
from pgpo_jax.training.update._state import TrainState

_log = logging.getLogger("pgpo_jax")
_ITEM = "state"
# The memory of an objective on the host, as bytes of a JSON text, if it has one.
_MEMORY = "memory"
# The JSON file of a checkpoint that holds the digests of its arrays and the inputs of its run.
_RECORD = "_CHECKPOINT_METADATA"
# Former versions stored the digest of all arrays as one more array.
_FORMER = "digest"


class Checkpoints:
    """The checkpoints of a run: the changing part of a `TrainState`, one folder per step.

    Each is written atomically.

    A save that fails does not change the older checkpoints. Use this as a context manager.

    Args:
        folder: an absolute path, which is created if it does not exist. Incomplete checkpoints of a
            killed process are removed, so no other process may write there.
        keep: number of newest checkpoints to keep.
        inputs: inputs of the run, as plain values, for the record of each checkpoint.

    Raises:
        ValueError: the record of a checkpoint is damaged. The message names the folder.
    """

    def __init__(
        self, folder: Path, *, keep: int = 2, inputs: Mapping[str, Any] = MappingProxyType({})
    ):
        # It takes a sixth of the start of `pgpo sample`, which needs no checkpoints.
        from orbax.checkpoint import v1 as ocp

        self._inputs = dict(inputs)
        path = local_path(folder, "the folder of checkpoints")
        training = ocp.training
        try:
            self._checkpointer = training.Checkpointer(
                path,  # pyright: ignore[reportArgumentType]
                preservation_policy=training.preservation_policies.LatestN(keep),  # pyright: ignore[reportArgumentType]
                # An incomplete checkpoint of a killed process never counts as one.
                cleanup_tmp_directories=True,
            )
        except (ValueError, TypeError, KeyError) as error:
            # It reads the record of each checkpoint to list the checkpoints.
            cause = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
            raise PGPOValueError(
                f"the checkpoints in {path} cannot be listed: a {_RECORD} in one of them is "
                f"damaged ({cause}). Move that checkpoint away; the one before it takes its place."
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for pending writes and release the folder."""
        self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """The newest complete step, or `None`."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def save(self, state: TrainState, memory: dict[str, Any] | None = None) -> None:
        """Write the state under its own step and wait until it is complete on disk.

        Args:
            state: of the run.
            memory: memory of the objective, as plain values for JSON; see `Objective.new_memory`.
        """
        step = int(state.step)
        if step != self.latest:
            items: dict[str, Any] = {_ITEM: _named(state)}
            record: dict[str, Any] = {
                "arrays": digests(items[_ITEM], purpose=_purpose(step)),
                "inputs": self._inputs,
            }
            if memory is not None:
                text = json.dumps(memory, sort_keys=True).encode("utf-8")
                items[_MEMORY] = {_MEMORY: jnp.asarray(np.frombuffer(text, np.uint8))}
                record[_MEMORY] = _text_digest(text)
            self._checkpointer.save_checkpointables(step, items, force=True, custom_metadata=record)

    def memory(self) -> dict[str, Any]:
        """The memory of the objective at the newest checkpoint.

        Raises:
            FileNotFoundError: if there is no checkpoint.
            ValueError: it holds no memory, cannot be read, or differs from the memory that was
                saved.
        """
        step = self._newest()
        with self._readable(step):
            metadata = self._checkpointer.checkpointables_metadata(step)
            record = _record(metadata)
            saved = metadata.metadata.get(_MEMORY)
        if _MEMORY not in record:
            raise PGPOValueError(
                f"checkpoint {step} in {self._checkpointer.directory} lacks the memory of the "
                "objective, which this run needs"
            )
        if saved is None:
            raise self._damaged(step, f"cannot be read ({self._broken_file(step, _MEMORY)})")
        single = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        with self._readable(step):
            shape = saved[_MEMORY].shape
            abstract = {_MEMORY: jax.ShapeDtypeStruct(shape, np.uint8, sharding=single)}
            loaded = self._checkpointer.load_checkpointables(step, {_MEMORY: abstract})[_MEMORY]
        text = np.asarray(loaded[_MEMORY]).tobytes()
        if _text_digest(text) != record[_MEMORY]:
            raise self._damaged(step, "has another memory of the objective than was saved")
        return json.loads(text)

    def inputs(self) -> dict[str, Any] | None:
        """The inputs of the run of the newest checkpoint, as `inputs` of the class.

        Returns:
            The record, or `None` if a former version without records wrote the checkpoint.

        Raises:
            FileNotFoundError, ValueError: as `restore`.
        """
        step = self._newest()
        with self._readable(step):
            record = _record(self._checkpointer.checkpointables_metadata(step))
        return record.get("inputs") or None

    def restore(self, template: TrainState) -> TrainState:
        """Read the newest checkpoint into the structure, dtypes and shardings of `template`.

        Args:
            template: a state, which does not change, or the result of `free_buffers` if two states
                do not fit in memory. Parts that never change are copied from it.

        Raises:
            FileNotFoundError: if there is no checkpoint.
            ValueError: an array belongs to another model or another step, or its bits are not those
                that were saved. The message names the first one. Or a file cannot be read, which
                the message names. An older checkpoint is never used instead without a request.
        """
        step = self._newest()
        with self._readable(step):
            metadata = self._checkpointer.checkpointables_metadata(step)
            record = _record(metadata)
            saved = metadata.metadata.get(_ITEM)
        if saved is None:
            raise self._damaged(step, f"cannot be read ({self._broken_file(step)})")
        wanted = _named(template)
        former, recorded = _FORMER in saved, record.get("arrays")
        if not former and not isinstance(recorded, dict):
            self._check_without_digests(step)
            recorded = {}
        if former:
            wanted[_FORMER] = _no_digest(template)
        self._compare(wanted, saved, step)
        abstract = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in wanted.items()
        }
        with self._readable(step):
            loaded = self._checkpointer.load_checkpointables(step, {_ITEM: abstract})[_ITEM]
        held = int(loaded["step"])
        if held != step:
            raise self._damaged(step, f"holds the state of step {held}: its folder was renamed")
        name = _changed(loaded, step, None if former else recorded)
        if name is not None:
            raise self._damaged(step, f"has other bits in {name} than were saved")
        leaves = [loaded[name] for name in _named(template)]
        changed = jax.tree.unflatten(jax.tree.structure(template.changing), leaves)
        return changed._replace(frozen=template.frozen, external=template.external)

    def _newest(self) -> int:
        step = self.latest
        if step is None:
            raise PGPOFileNotFoundError(f"no checkpoint in {self._checkpointer.directory}")
        return step

    @contextmanager
    def _readable(self, step: int) -> Iterator[None]:
        try:
            yield
        # The errors of orbax and tensorstore for a damaged file are not documented.
        except Exception as error:
            cause = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
            raise self._damaged(step, f"cannot be read ({cause})") from error

    def _check_without_digests(self, step: int) -> None:
        """Accept a checkpoint of a version without digests; refuse one that has lost them."""
        path = self._path(step) / _RECORD
        try:
            # The checkpoint of such a version is complete and has none of our files.
            whole = json.loads(path.read_text(encoding="utf-8"))["custom_metadata"] in (None, {})
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise self._damaged(step, f"lacks its digests, which are in the file {_RECORD}")
        if is_first():
            _log.warning(
                "checkpoint %d in %s was made by a version that wrote no digests, so its numbers "
                "cannot be checked",
                step,
                self._checkpointer.directory,
            )

    def _path(self, step: int) -> Path:
        return Path(str(self._checkpointer.directory)) / str(step)

    def _broken_file(self, step: int, item: str = _ITEM) -> str:
        """The reason why orbax has no description of the arrays."""
        folder = self._path(step) / item
        for name in ("", "_METADATA", "manifest.ocdbt", "d"):
            if not (folder / name).exists():
                return f"{folder / name} is missing"
        files = "_METADATA, _sharding, manifest.ocdbt, or one in d"
        return f"a file in {folder} is missing or damaged: {files}"

    def _damaged(self, step: int, what: str) -> ValueError:
        older = [x.step for x in self._checkpointer.checkpoints if x.step < step]
        advice = f"the run goes on from step {older[-1]}" if older else "there is no other"
        return PGPOValueError(
            f"checkpoint {step} in {self._checkpointer.directory} {what}. "
            f"If it is damaged: without its folder {advice}"
        )

    def _compare(self, wanted: dict[str, Any], saved: dict[str, Any], step: int) -> None:
        where = f"checkpoint {step} in {self._checkpointer.directory}"
        # The digest comes last, because a wrong number of arrays is better explained by the arrays.
        for name in sorted(wanted.keys() | saved.keys(), key=lambda name: (name == _FORMER, name)):
            if name not in saved:
                raise PGPOValueError(f"{where} lacks {name}, which this run's state has")
            if name not in wanted:
                raise PGPOValueError(f"{where} has {name}, which this run's state lacks")
            got = (tuple(saved[name].shape), jnp.dtype(saved[name].dtype))
            want = (wanted[name].shape, wanted[name].dtype)
            if got != want:
                raise PGPOValueError(f"{where}: {name} is {got}, this run's state has {want}")


def _record(metadata: Any) -> dict[str, Any]:
    """The record that `save` wrote; empty if a former version wrote the checkpoint."""
    held = metadata.custom_metadata
    return held if isinstance(held, dict) else {}


def _changed(loaded: dict[str, Array], step: int, recorded: dict[str, str] | None) -> str | None:
    """The first array that differs from the saved one; a former digest is removed from `loaded`.

    If `recorded` is empty there is no digest, and no change can be found.
    """
    if recorded is None:
        kept = np.asarray(loaded.pop(_FORMER))
        same = kept == np.asarray(former_digest(loaded))
        return next((name for name, ok in zip(sorted(loaded), same, strict=True) if not ok), None)
    found = digests(loaded, purpose=_purpose(step)) if recorded else {}
    return next((name for name in found if found[name] != recorded.get(name)), None)


def _text_digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def _purpose(step: int) -> str:
    return f"of step {step}"


def free_buffers(state: TrainState) -> TrainState:
    """The shapes and shardings of a state; its memory is freed, except for constant parts."""

    def release(leaf: Any) -> jax.ShapeDtypeStruct:
        shape = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
        leaf.delete()
        return shape

    freed = jax.tree.map(release, state.changing)
    return freed._replace(frozen=state.frozen, external=state.external)


def _named(state: TrainState) -> dict[str, Any]:
    """The changing arrays of a state by path, so that files do not depend on Python classes."""
    paths = jax.tree_util.tree_flatten_with_path(state.changing)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def _no_digest(state: TrainState) -> jax.ShapeDtypeStruct:
    """The shape of a former digest, with the sharding of a state's scalars."""
    number = len(_named(state))
    return jax.ShapeDtypeStruct((number,), jnp.uint32, sharding=state.step.sharding)
