from collections.abc import Callable, Iterator
from pathlib import Path

from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.paths import local_path
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.sources._columns import ColumnsConfig
from pgpo_jax.tasks.sources._datasets import (
    MissingSplitError,
    has_splits,
    hub_table,
    is_hub_id,
    is_saved,
    saved_table,
)
from pgpo_jax.tasks.sources._json import json_rows
from pgpo_jax.tasks.sources._parquet import parquet_rows
from pgpo_jax.tasks.sources._questions import questions_of
from pgpo_jax.tasks.sources._table import Row, Table

# The reader of a file, by the suffix of its name.
READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".json": json_rows,
    ".jsonl": json_rows,
    ".parquet": parquet_rows,
}
_SPLIT_NAMES = ("train", "test", "validation", "valid", "val", "dev", "eval")


def read_questions(
    spec: str, split: str = "train", columns: ColumnsConfig | None = None
) -> list[Question]:
    """The questions of a file, of a folder that `save_to_disk` wrote, or of an id on the Hub.

    Added in version 0.2.0.
    """
    return questions_of(_table(spec, split), columns or ColumnsConfig())


def load_sciknoweval(path: str | Path) -> list[Question]:
    """Read multiple-choice questions in the layout of SciKnowEval as published with SDPO.

    Args:
        path: a file of JSON lines, or one JSON array, of objects. They have the string fields
            `system`, `prompt` (options as lines `A: text`) and `answer` (one option letter), and
            optionally `idx`. The domain is the name of the folder with the file.

    Returns:
        The questions in file order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row is malformed, an answer is not among its options, an `idx` is repeated, or
            the file has no row. The message names file, line (row of an array) and field.
    """
    path = local_path(path, "a question file")
    if not _exists(path, Path.is_file):
        raise PGPOFileNotFoundError(f"no question file at {path}")
    return questions_of(_file_table(path, json_rows), ColumnsConfig(), sciknoweval=True)


def held_out_source(spec: str) -> str | None:
    """The name of the held-out source that belongs to a source, or `None`.

    Args:
        spec: a file, a folder or an id, as in `load_questions`.

    Returns:
        For a file `train.json` it is `test.json` in the same folder, also if the data are not on
        this machine; the same holds for `.jsonl` and `.parquet`. It is `spec` itself if that may
        have a split "test", else `None`.

    >>> held_out_source("elsewhere/train.jsonl"), held_out_source("elsewhere/questions.jsonl")
    ('elsewhere/test.jsonl', None)

    Added in version 0.2.0.
    """
    path = _local(spec)
    if path.suffix.lower() in READERS:
        test = path.with_name("test" + path.suffix)
        # If the data are on another machine, as when a run is planned, both files are assumed to
        # exist.
        found = _exists(test, Path.is_file) or not _exists(path, Path.is_file)
        return str(test) if path.stem == "train" and found else None
    if _exists(path, Path.exists):
        return spec if has_splits(path) else None
    return spec if is_hub_id(spec) else None


def read_held_out(spec: str, columns: ColumnsConfig) -> list[Question]:
    """The questions of `held_out_source`; empty if there is no such source or split.

    Raises:
        FileNotFoundError: `spec` is a file that does not exist and has no test file. The message
            names it.

    Added in version 0.2.0.
    """
    source, path = held_out_source(spec), _local(spec)
    beside = source is not None and _exists(_local(source), Path.exists)
    if path.suffix.lower() in READERS and not beside and not _exists(path, Path.exists):
        raise PGPOFileNotFoundError(f"no question file at {path}")
    if source is None:
        return []
    try:
        return read_questions(source, "test", columns)
    except MissingSplitError:
        return []


def is_source(spec: str) -> bool:
    """Whether a spec may be a source: a path, existing or not, or an id on the Hub.

    >>> is_source("a/b.json"), is_source("hf:org/name:main"), is_source("other:physics")
    (True, True, False)

    Added in version 0.2.0.
    """
    name, colon, _ = spec.partition(":")
    # "C:" begins a path on Windows.
    path = not colon or "/" in name or "\\" in name or len(name) == 1
    return path or is_hub_id(spec) or _exists(_local(spec), Path.exists)


def is_data_set(spec: str) -> bool:
    """Whether a spec has the form of an id on the Hub, and not of a readable file.

    >>> is_data_set("org/name"), is_data_set("data/train.json")
    (True, False)

    Added in version 0.2.0.
    """
    return is_hub_id(spec) and Path(spec).suffix.lower() not in READERS


def _table(spec: str, split: str) -> Table:
    if not spec.strip():
        raise PGPOValueError(f"a task must be a name or path, got {spec!r}")
    path = _local(spec)
    if _exists(path, Path.is_dir):
        if is_saved(path):
            return saved_table(path, split)
        raise PGPOValueError(
            f"{path} must be a folder that save_to_disk of the library datasets wrote, but has "
            "neither state.json nor dataset_dict.json. To read one file in it, give its path"
        )
    reader = READERS.get(path.suffix.lower())
    if _exists(path, Path.exists):
        if reader is None:
            raise PGPOValueError(f"a question file must end with {_suffixes()}, got {str(path)!r}")
        return _file_table(path, reader)
    if reader is None and is_hub_id(spec):
        return hub_table(spec, split)
    raise PGPOFileNotFoundError(f"no question file at {path}")


def _local(spec: str) -> Path:
    return local_path(spec, "a task")


def _file_table(path: Path, reader: Callable[[Path], Iterator[Row]]) -> Table:
    folder = path.resolve().parent.name
    # The name "train" says nothing about the subject of the questions.
    domain = folder if path.stem in _SPLIT_NAMES else path.stem
    return Table(str(path), path.stem, folder, domain, reader(path))


def _exists(path: Path, check: Callable[[Path], bool]) -> bool:
    """The answer of pathlib; an error for a path that is too long or not accessible."""
    try:
        return check(path)
    except (OSError, ValueError) as error:
        raise PGPOValueError(f"a task must be a path that can be read: {error}") from error


def _suffixes() -> str:
    *most, last = READERS
    return f"{', '.join(most)} or {last}"
