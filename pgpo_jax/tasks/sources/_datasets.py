"""Reads data sets of the library `datasets`: saved folders and ids on the Hugging Face Hub."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.tasks.sources._parquet import arrow_rows, require
from pgpo_jax.tasks.sources._table import Table

_ID = re.compile(r"(hf:)?(?P<path>[\w-][\w.-]*/(?P<name>[\w-][\w.-]*))(:(?P<config>[\w.+-]+))?")


class MissingSplitError(PGPOValueError):
    """A data set does not have the split."""


def is_hub_id(spec: str) -> bool:
    """Whether a spec reads as `[hf:]org/name[:config]`.

    >>> is_hub_id("openai/gsm8k"), is_hub_id("hf:openai/gsm8k:main"), is_hub_id("./a/b")
    (True, True, False)
    """
    return _ID.fullmatch(spec) is not None


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return has_splits(path) or (path / "state.json").is_file()


def has_splits(path: Path) -> bool:
    """Whether `save_to_disk` of a `DatasetDict` wrote the folder."""
    return (path / "dataset_dict.json").is_file()


def saved_table(path: Path, split: str) -> Table:
    """The rows of a folder that `save_to_disk` wrote.

    Raises:
        PGPOImportError: if `datasets` is not installed.
        PGPOValueError: the folder is damaged or does not have the split.
    """
    datasets = require("datasets", f"the folder {path}")
    try:
        with _no_bars(datasets):
            found = datasets.load_from_disk(str(path))
    except Exception as error:  # The library documents no class of error for damaged folders.
        raise PGPOValueError(
            f"{path}: not a readable folder of save_to_disk: {type(error).__name__}: {error}"
        ) from error
    return _table(found, str(path), path.resolve().name, split)


def hub_table(spec: str, split: str) -> Table:
    """The rows of a data set on the Hub; its files stay in the cache of `datasets`.

    Raises:
        PGPOImportError: if `datasets` is not installed.
        PGPOFileNotFoundError: the data set cannot be fetched.
        PGPOValueError: the data set does not have the split.
    """
    match = _ID.fullmatch(spec)
    if match is None:
        raise PGPOValueError(f"a data set id must read [hf:]org/name[:config], got {spec!r}")
    datasets = require("datasets", f"{spec!r} is no path; a data set of the Hugging Face Hub")
    try:
        with _no_bars(datasets):
            found = datasets.load_dataset(match["path"], match["config"])
    except Exception as error:  # Errors of network, access and format have many classes.
        # Some of these messages are long tables.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        hint = (
            "HF_HUB_OFFLINE is set, so only the cache was looked at"
            if datasets.config.HF_HUB_OFFLINE
            else "without network, HF_HUB_OFFLINE=1 takes what is in the cache at once"
        )
        raise PGPOFileNotFoundError(
            f"{spec!r} could be neither found as a path nor fetched as a data set of the Hugging "
            f"Face Hub ({reason}); {hint}"
        ) from error
    return _table(found, spec, match["name"], split)


def _table(found: Any, source: str, name: str, split: str) -> Table:
    """The table of a `Dataset`, or of one split of a `DatasetDict`."""
    if not isinstance(found, dict):
        return Table(source, name, name, name, _rows(found, source))
    wanted = [split, "validation"] if split == "test" else [split]
    chosen = next((word for word in wanted if word in found), None)
    if chosen is None:
        raise MissingSplitError(f"{source}: no split {' or '.join(wanted)}, it has {list(found)}")
    rows = _rows(found[chosen], f"{source}: {chosen}")
    return Table(source, f"{name}-{chosen}", name, name, rows)


def _rows(dataset: Any, source: str) -> Iterator[Any]:
    # Arrow returns the stored values; other formats would decode images and audio.
    return arrow_rows(dataset.with_format("arrow")[:], source)


@contextmanager
def _no_bars(datasets: Any) -> Iterator[None]:
    """Turn off the progress bars of `datasets` and of the Hub's client inside the block."""
    import huggingface_hub.utils as hub

    # If an environment variable is set, these functions only warn that they have no effect.
    switches = [
        library
        for library, variable in (
            (datasets, "HF_DATASETS_DISABLE_PROGRESS_BARS"),
            (hub, "HF_HUB_DISABLE_PROGRESS_BARS"),
        )
        if variable not in os.environ and not library.are_progress_bars_disabled()
    ]
    for library in switches:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for library in switches:
            library.enable_progress_bars()
