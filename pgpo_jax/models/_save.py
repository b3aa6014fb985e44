"""Writes a model as a Hugging Face folder. If it fails, the former contents are not changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models._decoder import Decoder
from pgpo_jax.models._load import INDEX, WEIGHTS
from pgpo_jax.models._lora import AdaptedKernel
from pgpo_jax.models._names import by_path, sources
from pgpo_jax.paths import local_path

_DTYPES = ("float32", "bfloat16", "float16")
_OURS = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")


def save_pretrained(
    model: Decoder,
    folder: str | os.PathLike[str],
    *,
    dtype: Any = None,
    max_shard_bytes: int = 5 * 2**30,
) -> None:
    """Write config.json and safetensors files that Hugging Face's class of the family loads.

    All files are written under other names first and then renamed. So a full disk does not damage
    an earlier model in the folder.

    Args:
        model: the model.
        folder: the folder, created if it does not exist. Other files in it, such as a tokenizer,
            are not changed.
        dtype: dtype of the stored weights: float32, bfloat16 or float16; None for the model's own.
        max_shard_bytes: largest size of a file, in bytes. A host also needs this much memory at a
            time.

    Raises:
        ValueError: the dtype is another one or cannot hold a weight, or `max_shard_bytes` is below
            1. Or weights are on devices of other hosts, or kernels have additions that are not
            `merged`.
        OSError: writing failed; nothing in the folder has changed.
    """
    flat = by_path(nnx.split(model, nnx.Param)[1])
    stored = np.dtype(flat["embedding",].dtype if dtype is None else dtype)
    if stored.name not in _DTYPES:
        raise PGPOValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {stored.name}.")
    if max_shard_bytes < 1:
        raise PGPOValueError(f"max_shard_bytes must be at least 1, got {max_shard_bytes}.")
    adapted = [".".join(path) for path, leaf in flat.items() if _is_adapted(leaf)]
    if adapted:
        raise PGPOValueError(
            f"{adapted[0]} is a kernel with something added to it; a file holds their sum: see "
            "pgpo_jax.models.merged."
        )
    if not all(leaf.get_value().is_fully_addressable for leaf in flat.values()):
        raise PGPOValueError("The weights lie on several hosts; gather them on one before saving.")

    # (Hugging Face name, path, layer or None), in the order of the layers.
    entries = []
    for path, source in sources(model.config).items():
        for layer, name in enumerate(source.names):
            entries.append((name, path, layer if source.stacked else None, source.transposed))
    shards, size = [[]], 0
    for entry in entries:
        _, path, layer, _ = entry
        value = flat[path].get_value()
        count = value.size // (1 if layer is None else value.shape[0]) * stored.itemsize
        if shards[-1] and size + count > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += count

    folder = local_path(folder, "the folder of a model")
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    try:
        files = {}
        total = 0
        for number, shard in enumerate(shards, 1):
            file = WEIGHTS
            if len(shards) > 1:
                file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            tensors = {}
            for name, path, layer, transposed in shard:
                value = flat[path].get_value()
                array = _narrowed(
                    np.asarray(value if layer is None else value[layer]), stored, name
                )
                tensors[name] = np.ascontiguousarray(array.T if transposed else array)
                files[name] = file
                total += tensors[name].nbytes
            save_file(tensors, work / file, metadata={"format": "pt"})
        if len(shards) > 1:
            index = {"metadata": {"total_size": total}, "weight_map": files}
            (work / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        text = json.dumps(model.config.to_dict(stored.name), indent=2)
        (work / "config.json").write_text(text + "\n", encoding="utf-8")
        for path in work.iterdir():
            # safetensors makes its files readable by their owner only.
            shutil.copymode(work / "config.json", path)
            _flush(path)
        fresh = {path.name for path in work.iterdir()}
        for name in sorted(fresh):
            os.replace(work / name, folder / name)
        # Files of an earlier layout could be read instead of the new ones, or with them.
        for old in list(folder.iterdir()):
            if _OURS.fullmatch(old.name) and old.name not in fresh:
                old.unlink()
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _narrowed(array: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """The array in `dtype`; refused if a finite weight would become infinite."""
    with np.errstate(over="ignore"):
        stored = array.astype(dtype)
    lost = np.isfinite(array) & ~np.isfinite(stored)
    if lost.any():
        raise PGPOValueError(
            f"dtype must hold every weight: {dtype.name} cannot hold {float(array[lost][0]):g} of "
            f"{name}; bfloat16 has the range of float32."
        )
    return stored


def _is_adapted(leaf: nnx.Variable) -> bool:
    return isinstance(leaf.get_value(), AdaptedKernel)


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
