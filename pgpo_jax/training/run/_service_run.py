"""Code that the trackers of outside services share: the import, and the state of the run."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from pgpo_jax._json_files import read_object
from pgpo_jax.errors import PGPOImportError, PGPOValueError


def import_service(name: str) -> ModuleType:
    """Import the package of a service; its extra has the same name.

    Raises:
        ImportError: if it is not installed; the message says what to install.
    """
    message = f"the tracker {name!r} needs {name}: pip install 'pgpo-jax[{name}]'"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise PGPOImportError(message) from None
    # A folder of the same name in the current folder is imported as an empty package.
    if not hasattr(module, "init"):
        raise PGPOImportError(message)
    return module


class ServiceRun:
    """A small JSON file with the identity of a run at a service and the last step that was sent.

    The service may have received steps after the newest checkpoint. A resumed run makes these steps
    again, with the same numbers. `is_new` distinguishes them from steps to send.

    Args:
        path: the file. It is replaced as a whole.

    Attributes:
        names: values that were given to `begin`, in this process or in an earlier one.
    """

    def __init__(self, path: Path):
        self._path = path
        self.names: dict[str, Any] = {}
        self._sent = self._done = -1
        if path.is_file():
            try:
                kept = read_object(path)
                self.names, self._done = kept["names"], int(kept["last_step"])
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise PGPOValueError(
                    f"{path} must be a JSON object with the fields names and last_step; delete it "
                    f"to begin a new run at the service: {error!r}"
                ) from error
            self._sent = self._done

    def begin(self, names: dict[str, Any]) -> None:
        self.names = names
        self._save()

    def is_new(self, step: int) -> bool:
        """Whether no earlier process sent this step; the answer is stored for later processes."""
        if step <= self._done:
            return False
        if step > self._sent:
            # This is stored before the step is sent. If the process dies in between, the service
            # misses a step, but never gets one twice.
            self._sent = step
            self._save()
        return True

    def _save(self) -> None:
        temporary = self._path.with_suffix(".json.tmp")
        temporary.write_text(json.dumps({"names": self.names, "last_step": self._sent}) + "\n")
        temporary.replace(self._path)


def table(rows: Any) -> tuple[list[str], list[list[Any]]]:
    """Columns and cells of the fields that hold one text or one number.

    Lists, such as the numbers of each token, are in `texts.jsonl` only.
    """
    kinds = (str, int, float, bool)
    names = dict.fromkeys(
        name for row in rows for name, value in row.items() if isinstance(value, kinds)
    )
    cells = [
        [row[name] if isinstance(row.get(name), kinds) else None for name in names] for row in rows
    ]
    return list(names), cells
