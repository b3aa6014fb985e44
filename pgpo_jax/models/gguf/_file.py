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
        path: where it is.
        metadata: its values, with arrays as lists.
        tensors: the reader's tensors by GGUF name. Their numbers are still in the file.

    Added in version 0.2.0.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Any]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, which begins the keys about the model."""
        return self.value("general.architecture", str)

    def value(self, key: str, kind: type | tuple[type, ...], default: Any = _ABSENT) -> Any:
        """The value of a key.

        Args:
            key: of the metadata.
            kind: what the value must be an instance of.
            default: where the key is absent.

        Returns:
            The value.

        Raises:
            ValueError: the key is absent and has no default, or its value is of another kind.
        """
        found = self.metadata.get(key, default)
        if found is _ABSENT:
            raise PGPOValueError(f"{self.path}: the metadata lacks {key}.")
        if key in self.metadata and not isinstance(found, kind):
            raise PGPOValueError(f"{self.path}: {key} must be a {kind}, got {found!r:.60}.")
        return found

    def own(self, key: str, kind: type | tuple[type, ...], default: Any = _ABSENT) -> Any:
        """The value of a key about the model, which begins with the architecture."""
        return self.value(f"{self.architecture}.{key}", kind, default)


def is_gguf(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a GGUF file, by its ending.

    Added in version 0.2.0.
    """
    return Path(path).suffix.lower() == ".gguf"


def read_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Opens a GGUF file and reads its metadata.

    Args:
        path: of the file.

    Returns:
        The metadata and the tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the extra `gguf` is not installed.
        ValueError: it is torn or no GGUF file, holds something else than a whole model, or has a
            tensor in a quantisation that the library `gguf` does not know.

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
    """The file in this state. Reading a vocabulary takes seconds, and model and tokenizer ask."""
    del changed, size
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
    # On a file that ends early the reader fails in whatever it was reading.
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
