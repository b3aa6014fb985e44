import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pgpo_jax._json_files import read_object, read_steps
from pgpo_jax.errors import (
    PGPOFileExistsError,
    PGPOFileNotFoundError,
)
from pgpo_jax.paths import local_path
from pgpo_jax.training.config._json import check_same_config
from pgpo_jax.training.config._places import same_but_for_place
from pgpo_jax.training.config._rules import require
from pgpo_jax.training.run._lock import claimed_run_folder

# Settings that may differ between a run and its continuation. They do not change the numbers of a
# step. Another mesh changes only the order in which floats are added.
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
    """Lock a run folder for this process and check its configuration.

    Args:
        folder: folder with `config.json`, `metrics.jsonl`, `evaluations.jsonl`, `timings.jsonl`,
            `texts.jsonl`, `questions.jsonl`, `checkpoints/` and TensorBoard's events.
        config: configuration of the run. It is written to `config.json` of a new run. That of a
            continued run does not change, see `write_config`.
        steps: total number of steps, including those already made.
        resume: continue the run in it.
        today: function that converts an older `config.json` to the current names.

    Raises:
        FileExistsError: it holds a run and `resume` is false.
        FileNotFoundError: there is no run to resume.
        ValueError: the run in it has another configuration, or has made more than `steps` steps.
            The message names the first field that differs. Paths of model, task and own files may
            differ.
        RuntimeError: if another process is using it.
    """
    path = folder / "config.json"
    wanted: dict[str, Any] = json.loads(json.dumps(config))
    if resume:
        if not path.is_file():
            raise PGPOFileNotFoundError(f"nothing to resume: there is no run in {folder}")
        before = today(read_object(path))
        check_same_config(before, wanted, folder, free=free_fields(wanted), same=same_but_for_place)
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
        if not resume:
            write_config(folder, wanted)
        yield folder


def free_fields(config: Mapping[str, Any]) -> frozenset[str]:
    """The fields that may differ between a run and its continuation."""
    # A decreasing learning rate depends on the last step.
    falling = config.get("optimizer", {})
    falls = isinstance(falling, dict) and falling.get("schedule", "constant") != "constant"
    return FREE_FIELDS - {"steps"} if falls else FREE_FIELDS


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `config.json` with the settings of the continued run, if they differ."""
    path, text = folder / "config.json", json.dumps(config, indent=2) + "\n"
    if not path.exists() or path.read_text() != text:
        replace_file(path, text)


def write_questions(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the held-out questions of a run to `questions.jsonl`, one per line."""
    if rows:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        replace_file(folder / "questions.jsonl", text)


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The complete lines of a file of JSON lines. A line that a crash cut off is left out.

    Raises:
        ValueError: naming the line, if one is not an object with a step.
    """
    return read_steps(local_path(path))


def cut_jsonl(path: Path, last_step: int) -> None:
    """Drop the lines of later steps; a resumed run writes them again, digit for digit."""
    if path.is_file():
        kept = [row for row in read_jsonl(path) if row["step"] <= last_step]
        replace_file(path, "".join(json.dumps(row) + "\n" for row in kept))


def replace_file(path: Path, text: str) -> None:
    """Write a file atomically."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
