import fcntl
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pgpo_jax.errors import (
    PGPOFileExistsError,
    PGPOFileNotFoundError,
    PGPORuntimeError,
    PGPOValueError,
)
from pgpo_jax.training.config._rules import require
from pgpo_jax.training.config._train_config import TrainConfig

# What may differ between a run and its continuation: it changes no number of a step (another
# mesh: none beyond the order in which floats are added).
_FREE = frozenset(
    {"steps", "checkpoint_every", "keep_checkpoints", "tensorboard"}
    | {"mesh.data", "mesh.fsdp", "mesh.tensor"}
)


@contextmanager
def open_run_folder(folder: Path, config: TrainConfig, *, resume: bool) -> Iterator[Path]:
    """Claims a run folder for this process and this configuration.

    Args:
        folder: holds `config.json`, `metrics.jsonl`, `evaluations.jsonl`, `timings.jsonl`,
            `checkpoints/` and TensorBoard's events.
        config: what the run is to be made, or continued, with; `config.json` then says so.
        resume: continue the run in it.

    Raises:
        FileExistsError: if it holds a run and `resume` is false.
        FileNotFoundError: if there is nothing to resume.
        ValueError: naming the first field that differs, if the run in it has another
            configuration; `steps` below those that it has made.
        RuntimeError: if another process is using it.
    """
    path = folder / "config.json"
    if resume:
        if not path.is_file():
            raise PGPOFileNotFoundError(f"nothing to resume: there is no run in {folder}")
        # A falling learning rate depends on where it is to end.
        free = _FREE if config.optimizer.schedule == "constant" else _FREE - {"steps"}
        check_same_config(json.loads(path.read_text()), config.to_json(), folder, free=free)
        done = max((row["step"] for row in read_jsonl(folder / "metrics.jsonl")), default=0)
        require(
            config.steps >= done,
            f"steps must be at least the {done} that the run in {folder} has made",
            config.steps,
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PGPORuntimeError(f"{folder} is in use by another process") from None
        if not resume and path.exists():
            raise PGPOFileExistsError(
                f"{folder} holds a run already: pass --resume or another folder"
            )
        # Also when resumed: what changed of it is what the run is to be continued with from now on.
        text = json.dumps(config.to_json(), indent=2) + "\n"
        if not path.exists() or path.read_text() != text:
            _replace(path, text)
        yield folder


def check_same_config(
    old: dict[str, Any], new: dict[str, Any], folder: Path, *, free: Collection[str] = ()
) -> None:
    """Refuses to go on in a folder that belongs to another configuration.

    Args:
        old: as read from the folder.
        new: what is asked for now.
        folder: named in the error.
        free: dotted names of fields that may differ.

    Raises:
        ValueError: naming the first field that differs, with both values.
    """
    # As it will be read back: a tuple becomes a list.
    before, now = dict(leaves(old)), dict(leaves(json.loads(json.dumps(new))))
    for name in sorted(before.keys() | now.keys()):
        if name not in free and before.get(name) != now.get(name):
            raise PGPOValueError(
                f"{folder} belongs to another configuration: {name} was "
                f"{before.get(name)!r}, now {now.get(name)!r}"
            )


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested configuration by dotted name."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a file of JSON lines; a line cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines if line]


def cut_jsonl(path: Path, last_step: int) -> None:
    """Drops the lines of later steps: a resumed run will write them again, digit for digit."""
    if path.is_file():
        kept = [row for row in read_jsonl(path) if row["step"] <= last_step]
        _replace(path, "".join(json.dumps(row) + "\n" for row in kept))


def _replace(path: Path, text: str) -> None:
    """Writes a file as a whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)
