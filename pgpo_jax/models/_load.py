"""Reads a Hugging Face folder directly into the shards of a mesh."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from safetensors import SafetensorError, safe_open

from pgpo_jax._json_files import read_object
from pgpo_jax.errors import PGPOFileNotFoundError, PGPOTypeError, PGPOValueError
from pgpo_jax.models._config import DecoderConfig
from pgpo_jax.models._decoder import Decoder
from pgpo_jax.models._names import Source, by_path, sources
from pgpo_jax.models._params import shardings
from pgpo_jax.models.gguf import GGUFWeights, gguf_config, is_gguf, read_gguf
from pgpo_jax.paths import local_path

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_DTYPES = ("F32", "BF16", "F16")
_COMPARED_ROWS = 4096
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def load_pretrained(
    folder: str | os.PathLike[str],
    *,
    mesh: Mesh | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    remat: bool | str = False,
    attention: str = "xla",
) -> Decoder:
    """Load a model from config.json and *.safetensors (one file, or shards with an index).

    Each device receives only its own part, which is read from the file when needed. So a host needs
    memory for one device's part of one weight only, in addition to the memory of its devices.
    Stored tensors may be float32, bfloat16 or float16. Those of a GGUF file are dequantised.

    Args:
        folder: a Hugging Face folder, a Hub id to fetch such as "Qwen/Qwen3-0.6B", or a `.gguf`
            file.
        mesh: mesh on which `SHARDING_RULES` place the weights; None for the default device.
        dtype: dtype of the computation; None for `param_dtype`.
        param_dtype: dtype of the weights in memory, whatever the file holds. Use float32 for
            training.
        remat: see `Decoder`.
        attention: see `Decoder`.

    Returns:
        The model.

    Raises:
        FileNotFoundError: the folder or file does not exist, or the Hub id could not be fetched.
        ImportError: a GGUF file without the extra `gguf`.
        ValueError: the architecture is not implemented, or the model cannot be cut over the mesh.
            Tensors are missing, unexpected, repeated, truncated, or of the wrong shape or dtype;
            the message names them and the nearest matches. A tensor has NaN or infinity. An index
            points outside the folder. A GGUF file is truncated or has an unknown quantisation.
    """
    if is_gguf(folder):
        stored = read_gguf(folder)
        path, config = stored.path, gguf_config(stored)
        files = _Files(path, GGUFWeights(stored, config))
    else:
        path = find_folder(folder)
        config = DecoderConfig.from_folder(path)
        files = _Files(path)
    model = nnx.eval_shape(
        lambda: Decoder(
            config,
            rngs=nnx.Rngs(0),
            dtype=param_dtype if dtype is None else dtype,
            param_dtype=param_dtype,
            remat=remat,
            attention=attention,
            mesh=mesh,
        )
    )
    graphdef, abstract = nnx.split(model, nnx.Param)
    table = sources(config)
    flat = by_path(abstract)
    files.check({key: (table[key], leaf.shape) for key, leaf in flat.items()}, config)
    places = {} if mesh is None else by_path(shardings(abstract, mesh))
    loaded = {}
    for key, leaf in flat.items():

        def part(index: Any, source: Source = table[key]) -> np.ndarray:
            return files.read(source, index, np.dtype(param_dtype))

        if mesh is None:
            # `jnp.asarray` would compile a program for every shape.
            value = jax.device_put(part((slice(None),) * len(leaf.shape)), may_alias=False)
        else:
            value = jax.make_array_from_callback(leaf.shape, places[key].get_value(), part)
        loaded[key] = leaf.replace(value)
    return nnx.merge(graphdef, nnx.from_flat_state(loaded))


def find_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder itself, or the local copy of a Hub repository.

    Args:
        folder: a path or a Hub id.

    Returns:
        A folder that exists.

    Raises:
        FileNotFoundError: it is no folder here and no repository that could be fetched.
    """
    path = local_path(folder, "a model")
    if path.is_dir():
        return path
    name = os.fspath(folder)
    if path.exists() or not isinstance(name, str) or not _HUB_ID.fullmatch(name):
        raise PGPOFileNotFoundError(
            f"No model folder {name!r} (and it is not of the form of a Hub id, 'owner/name')."
        )
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        fetched = huggingface_hub.snapshot_download(
            name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt"]
        )
    # Being offline can raise any of these errors. The message says what was tried.
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise PGPOFileNotFoundError(
            f"No folder {name!r} here, and fetching the repository {name!r} from the Hugging Face "
            f"Hub failed ({type(error).__name__}: {str(error).strip().splitlines()[0]}). Offline, "
            "give the path of a folder with config.json and *.safetensors."
        ) from error
    return Path(fetched)


def absolute_model(name: str) -> str:
    """The model's name in a form that does not depend on the current folder.

    Args:
        name: a folder, which becomes an absolute path, or a Hub id, which does not change.

    Raises:
        ValueError: as `local_path`.

    >>> absolute_model("Qwen/Qwen3-0.6B")
    'Qwen/Qwen3-0.6B'

    Added in version 0.2.0.
    """
    path = local_path(name, "a model")
    if not path.exists() and _HUB_ID.fullmatch(name):
        return name
    return str(path.resolve())


class _Files:
    """The safetensors files of one folder, opened lazily and read by slices, or one GGUF file."""

    def __init__(self, folder: Path, opened: GGUFWeights | None = None):
        self.folder = folder
        self._open: dict[str, Any] = {}
        self._where: dict[str, str] = {}
        if opened is not None:
            self._open = {folder.name: opened}
            self._where = dict.fromkeys(opened.keys(), folder.name)
            return
        listed = None
        if (folder / WEIGHTS).is_file():
            files = [WEIGHTS]
        elif (folder / INDEX).is_file():
            listed = _read_index(folder / INDEX)
            files = sorted(set(listed.values()))
        else:
            found = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".safetensors"))
            raise PGPOFileNotFoundError(
                f"Neither {WEIGHTS} nor {INDEX} in {folder}"
                + (f"; it holds {', '.join(found)}" if found else "")
                + ". Pickled weights are not read: convert them to safetensors."
            )
        twice = []
        for file in files:
            if not (folder / file).is_file():
                raise PGPOFileNotFoundError(f"{INDEX} lists {file}, which is not in {folder}.")
            try:
                self._open[file] = safe_open(folder / file, framework="np")
            except SafetensorError as error:
                raise PGPOValueError(
                    f"{folder / file} is truncated or not a safetensors file: {error}."
                ) from error
            names = self._open[file].keys()
            for name in names:
                if name in self._where:
                    twice.append(f"{name} ({self._where[name]}, {file})")
                self._where[name] = file
        if twice:
            raise PGPOValueError(f"Tensors in {folder} that are in two files: {_some(twice)}.")
        if listed is not None:
            lost = [f"{name} ({file})" for name, file in listed.items() if name not in self._where]
            if lost:
                raise PGPOValueError(f"{INDEX} lists tensors that its files lack: {_some(lost)}.")

    def _slice(self, name: str) -> Any:
        return self._open[self._where[name]].get_slice(name)

    def check(
        self, wanted: dict[tuple[str, ...], tuple[Source, tuple[int, ...]]], config: DecoderConfig
    ) -> None:
        """Check the names, shapes and dtypes of all tensors, and report all faults at once."""
        shapes = {n: source.shape(ours) for source, ours in wanted.values() for n in source.names}
        missing = [name for name in shapes if name not in self._where]
        # The file of a tied model may repeat the embedding as the head. Both must then be the same.
        spare = {"lm_head.weight"} if config.tie_word_embeddings else set()
        unexpected = [name for name in self._where if name not in shapes and name not in spare]
        faults = []
        for name in missing:
            near = difflib.get_close_matches(name, unexpected or self._where, n=2)
            faults.append(f"missing {name}" + (f" (nearest: {', '.join(near)})" if near else ""))
        for name in unexpected:
            near = difflib.get_close_matches(name, missing or shapes, n=2)
            faults.append(f"unexpected {name}" + (f" (nearest: {', '.join(near)})" if near else ""))
        for name in self._where.keys() & shapes.keys():
            view = self._slice(name)
            if tuple(view.get_shape()) != shapes[name]:
                faults.append(
                    f"{name} has shape {tuple(view.get_shape())}, config.json asks {shapes[name]}"
                )
            if view.get_dtype() not in _DTYPES:
                faults.append(f"{name} has dtype {view.get_dtype()}, not one of {_DTYPES}")
        if not faults and spare & self._where.keys():
            head, table = self._slice("lm_head.weight"), self._slice("model.embed_tokens.weight")
            if head.get_shape() != table.get_shape() or not all(
                np.array_equal(head[start:stop], table[start:stop])
                for start, stop in _stretches(config.vocab_size)
            ):
                faults.append(
                    "lm_head.weight differs from model.embed_tokens.weight, but config.json says "
                    "tie_word_embeddings"
                )
        if faults:
            raise PGPOValueError(f"The weights in {self.folder} do not fit: {_some(faults, '; ')}.")

    def read(self, source: Source, index: tuple[slice, ...], dtype: np.dtype) -> np.ndarray:
        """The part `index` of our (stacked, transposed) array, cast to `dtype`."""
        names, inner = source.names, index
        if source.stacked:
            names, inner = names[index[0]], index[1:]
        if source.transposed:
            inner = inner[::-1]

        def part(name: str) -> np.ndarray:
            stored = self._slice(name)[inner]
            return stored.T if source.transposed else stored

        def finite(array: np.ndarray, name: str) -> np.ndarray:
            if not np.isfinite(array).all():
                raise PGPOValueError(
                    f"{name} in {self.folder / self._where[name]} has NaN or infinity, read as "
                    f"{dtype.name}: such weights answer nothing and cannot be trained."
                )
            return array

        first = part(names[0])
        if not source.stacked:
            return finite(np.ascontiguousarray(first, dtype), names[0])
        # It is filled layer by layer. A list of the layers and their stack would need twice the
        # memory.
        whole = np.empty((len(names), *first.shape), dtype)
        for layer, name in enumerate(names):
            whole[layer] = first if layer == 0 else part(name)
            finite(whole[layer], name)
        return whole


def _stretches(rows: int) -> Iterator[tuple[int, int]]:
    """Rows are compared in blocks, so that whole tables need not be in memory."""
    for start in range(0, rows, _COMPARED_ROWS):
        yield start, min(start + _COMPARED_ROWS, rows)


def _read_index(path: Path) -> dict[str, str]:
    try:
        listed = read_object(path)["weight_map"]
        if not all(isinstance(file, str) for file in listed.values()):
            raise PGPOTypeError("weight_map must map names to file names")
        if not listed:
            raise PGPOValueError("weight_map must name a file, got none")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PGPOValueError(f"{path} is not an index of safetensors: {error!r}.") from error
    for name, file in listed.items():
        # The path is checked lexically, because files in the Hub's cache are links to other
        # folders.
        parts = PurePosixPath(file.replace("\\", "/"))
        if parts.is_absolute() or PureWindowsPath(file).drive or ".." in parts.parts:
            raise PGPOValueError(f"{path}: {name} points outside the folder, to {file!r}.")
        if parts.suffix != ".safetensors":
            raise PGPOValueError(
                f"{path}: {name} is in {file!r}, which is not a .safetensors file."
            )
    return listed


def _some(items: list[str], separator: str = ", ", limit: int = 12) -> str:
    """The first items and the number of the others."""
    more = f"{separator}and {len(items) - limit} more" if len(items) > limit else ""
    return separator.join(items[:limit]) + more
