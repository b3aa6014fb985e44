"""Opens a GGUF file: its metadata by key and its tensors by name."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, NamedTuple

from pgpo_jax._extras import require_extra
from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError

_ABSENT: Any = object()


class GGUFFile(NamedTuple):
    """An open GGUF file.

    Attributes:
        path: path of the file.
        metadata: values of the metadata by key, with arrays as lists.
        tensors: tensors of the reader by GGUF name. Their numbers are not read yet.

    Added in version 0.2.0.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Any]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, the prefix of the keys about the model."""
        return self.value("general.architecture", str)

    def value(self, key: str, kind: type | tuple[type, ...], default: Any = _ABSENT) -> Any:
        """The value of a key.

        Args:
            key: key of the metadata.
            kind: required type of the value.
            default: value if the key is missing.

        Returns:
            The value.

        Raises:
            ValueError: the key is missing without a default, or its value has another type.
        """
        found = self.metadata.get(key, default)
        if found is _ABSENT:
            raise PGPOValueError(f"{self.path}: the metadata lacks {key}.")
        if key in self.metadata and not isinstance(found, kind):
            raise PGPOValueError(f"{self.path}: {key} must be a {kind}, got {found!r:.60}.")
        return found

    def own(self, key: str, kind: type | tuple[type, ...], default: Any = _ABSENT) -> Any:
        """The value of a key about the model; the architecture is its prefix."""
        return self.value(f"{self.architecture}.{key}", kind, default)


def is_gguf(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a GGUF file, by its suffix.

    Added in version 0.2.0.
    """
    return Path(path).suffix.lower() == ".gguf"


def read_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Open a GGUF file and read its metadata.

    Args:
        path: path path of the file.

    Returns:
        The metadata and the tensors.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: the extra `gguf` is not installed.
        ValueError: the file is truncated, is no GGUF file, or does not hold a whole model. Or a
            tensor has a quantisation that the library `gguf` does not know.

    Added in version 0.2.0.
    """
    path = Path(path)
    if not path.is_file():
        raise PGPOFileNotFoundError(f"No GGUF file {str(path)!r}.")
    require_extra("gguf")
    about = path.stat()
    return _opened(path.resolve(), about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=1)
def _opened(path: Path, changed: int, size: int) -> GGUFFile:
    """The file in this state, cached: reading a vocabulary takes seconds, and it is read twice."""
    del changed, size
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
    # On a truncated file the reader fails with an error of the part that it was reading.
    except Exception as error:
        if "GGMLQuantizationType" in str(error):
            raise PGPOValueError(
                f"{path} holds a tensor in a quantisation that the library gguf does not know: "
                f"{error}."
            ) from error
        raise PGPOValueError(
            f"{path} is torn or not a GGUF file ({type(error).__name__}: {error}); fetch it again."
        ) from error
    file = GGUFFile(path, metadata, {tensor.name: tensor for tensor in reader.tensors})
    kind = file.value("general.type", str, "model")
    if kind != "model":
        raise PGPOValueError(f"{path}: general.type must be 'model', got {kind!r}.")
    parts = file.value("split.count", int, 1)
    if parts > 1:
        raise PGPOValueError(
            f"{path} is one of {parts} parts of a model; join them with llama-gguf-split --merge."
        )
    return file
