"""Reads parquet files, and the Arrow tables of data sets."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgpo_jax.errors import PGPOImportError, PGPOValueError
from pgpo_jax.tasks.sources._table import Row

_BATCH = 4096


def require(module: str, purpose: str) -> Any:
    """Import a module of the extra `data`.

    Raises:
        PGPOImportError: the module is not installed. The message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise PGPOImportError(
            f"{purpose} needs {package}: pip install 'pgpo-jax[data]' ({error})"
        ) from error


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a parquet file.

    Raises:
        PGPOImportError: if pyarrow is not installed.
        PGPOValueError: the file is damaged.
    """
    pyarrow = require("pyarrow", f"the parquet file {path}")
    parquet = require("pyarrow.parquet", f"the parquet file {path}")
    try:
        # Unlike read_table, this makes no columns from folders named "name=value".
        with parquet.ParquetFile(path) as file:
            table = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise PGPOValueError(f"{path}: not a readable parquet file: {error}") from error
    return arrow_rows(table, str(path))


def arrow_rows(table: Any, source: str) -> Iterator[Row]:
    """The rows of a `pyarrow.Table` as plain Python values.

    Raises:
        PGPOValueError: two columns have the same name, or a value has no plain Python form.
    """
    names = list(table.column_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PGPOValueError(
            f"{source}: each column must have a name of its own, got {twice} twice"
        )
    number = 0
    for batch in table.to_batches(max_chunksize=_BATCH):
        try:
            values = batch.to_pylist()
        except (ValueError, ImportError, NotImplementedError) as error:
            raise PGPOValueError(f"{source}: a column cannot be read: {error}") from error
        for value in values:
            number += 1
            yield Row(f"{source}: row {number}", value)
