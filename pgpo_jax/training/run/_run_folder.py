import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pgpo_jax._json_files import read_object, read_steps
from pgpo_jax.errors import (
    PGPOFileExistsError,
    PGPOFileNotFoundError,
    PGPORuntimeError,
)
from pgpo_jax.training.config._json import check_same_config
from pgpo_jax.training.config._rules import require

# What may differ between a run and its continuation: it changes no number of a step (another
# mesh: none beyond the order in which floats are added).
FREE_FIELDS = frozenset(
    {"steps", "checkpoint_every", "keep_checkpoints", "trackers"}
    | {"grader.timeout", "grader.workers"}
    | {"mesh.data", "mesh.fsdp", "mesh.tensor"}
    | {"texts.rows", "texts.every", "texts.evaluation"}
    | {"selection.metric", "selection.best", "selection.keep_best"}
    | {"selection.patience", "selection.margin"}
)


@contextmanager
def open_run_folder(
    folder: Path,
    config: Mapping[str, Any],
    *,
    steps: int,
    resume: bool,
    today: Callable[[dict[str, Any]], dict[str, Any]] = lambda values: values,
) -> Iterator[Path]:
    """Claims a run folder for this process and this configuration.

    Args:
        folder: holds `config.json`, `metrics.jsonl`, `evaluations.jsonl`, `timings.jsonl`,
            `texts.jsonl`, `questions.jsonl`, `checkpoints/` and TensorBoard's events.
        config: what the run is to be made, or continued, with; `config.json` then says so.
        steps: of the run, those that it has made included.
        resume: continue the run in it.
        today: brings what `config.json` holds of an older version under today's names.

    Raises:
        FileExistsError: if it holds a run and `resume` is false.
        FileNotFoundError: if there is nothing to resume.
        ValueError: naming the first field that differs, if the run in it has another
            configuration; `steps` below those that it has made.
        RuntimeError: if another process is using it.
    """
    path = folder / "config.json"
    wanted: dict[str, Any] = json.loads(json.dumps(config))
    if resume:
        if not path.is_file():
            raise PGPOFileNotFoundError(f"nothing to resume: there is no run in {folder}")
        # A falling learning rate depends on where it is to end.
        falling = wanted.get("optimizer", {})
        falls = isinstance(falling, dict) and falling.get("schedule", "constant") != "constant"
        free = FREE_FIELDS - {"steps"} if falls else FREE_FIELDS
        before = today(read_object(path))
        check_same_config(before, wanted, folder, free=free)
        done = max((row["step"] for row in read_jsonl(folder / "metrics.jsonl")), default=0)
        require(
            steps >= done,
            f"steps must be at least the {done} that the run in {folder} has made",
            steps,
        )
    folder.mkdir(parents=True, exist_ok=True)
    with claimed_run_folder(folder):
        if not resume and path.exists():
            raise PGPOFileExistsError(
                f"{folder} holds a run already: pass --resume or another folder"
            )
        # Also when resumed: what changed of it is what the run is to be continued with from now on.
        text = json.dumps(wanted, indent=2) + "\n"
        if not path.exists() or path.read_bytes() != text.encode():
            replace_file(path, text)
        yield folder


@contextmanager
def claimed_run_folder(folder: Path) -> Iterator[Path]:
    """Keeps other processes from using a run folder that is there.

    Raises:
        RuntimeError: if another process is using it.
    """
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PGPORuntimeError(f"{folder} is in use by another process") from None
        yield folder


def write_questions(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the held-out questions of a run to `questions.jsonl`, one per line."""
    if rows:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        replace_file(folder / "questions.jsonl", text)


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The complete lines of a file of JSON lines; a line cut off by a crash is left out.

    Raises:
        ValueError: naming the line, if one is not an object with a step.
    """
    return read_steps(Path(path))


def cut_jsonl(path: Path, last_step: int) -> None:
    """Drops the lines of later steps: a resumed run will write them again, digit for digit."""
    if path.is_file():
        kept = [row for row in read_jsonl(path) if row["step"] <= last_step]
        replace_file(path, "".join(json.dumps(row) + "\n" for row in kept))


def replace_file(path: Path, text: str) -> None:
    """Writes a file as a whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
