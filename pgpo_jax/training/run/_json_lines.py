import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.training.run._run_folder import cut_jsonl

_NAMES = ("metrics", "evaluations", "timings")


class JSONLinesTracker:
    """Writes `metrics.jsonl`, `evaluations.jsonl`, `timings.jsonl` and `texts.jsonl`.

    Each call appends its lines and flushes them. JSON has no NaN: a number that is not finite
    becomes null. Timings have their own file. So the metrics of a resumed run equal those of a run
    without interruption, digit for digit. `texts.jsonl` is created with the first text.

    Args:
        folder: the run folder.
        last_step: lines after this step are dropped; -1 for a new run.

    Raises:
        OSError: a file cannot be written, at any call. These files are the record of the run, so
            such an error is not ignored.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from pgpo_jax.training import JSONLinesTracker, read_jsonl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tracker = JSONLinesTracker(Path(folder))
    ...     tracker.log(1, {"loss": 0.5, "pgpo/rho": float("nan")})
    ...     tracker.close()
    ...     read_jsonl(Path(folder) / "metrics.jsonl")
    [{'step': 1, 'loss': 0.5, 'pgpo/rho': None}]

    Added in version 0.2.0.
    """

    def __init__(self, folder: Path, *, last_step: int = -1):
        self._folder = folder
        for name in (*_NAMES, "texts"):
            cut_jsonl(folder / f"{name}.jsonl", last_step)
        self._open = ExitStack()
        self._files: dict[str, TextIO] = {}
        for name in _NAMES:
            self._file(name)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._write("metrics", [{"step": step, **metrics}])

    def log_timing(self, step: int, timings: Mapping[str, float]) -> None:
        self._write("timings", [{"step": step, **timings}])

    def log_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        self._write("evaluations", [{"step": step, "scores": scores}])

    def log_texts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            if "step" in row:
                raise PGPOValueError(
                    f"a row of texts must not have a field 'step', got {row['step']!r}: "
                    "the tracker writes it"
                )
        if rows:
            self._write("texts", [{"step": step, **row} for row in rows])

    def _write(self, name: str, rows: list[dict[str, Any]]) -> None:
        lines = [json.dumps(_finite(row), allow_nan=False) + "\n" for row in rows]
        file = self._file(name)
        file.write("".join(lines))
        file.flush()

    def _file(self, name: str) -> TextIO:
        if name not in self._files:
            path = self._folder / f"{name}.jsonl"
            self._files[name] = self._open.enter_context(path.open("a"))
        return self._files[name]

    def close(self) -> None:
        # All files are closed even if one of them cannot write its buffer.
        self._open.close()


def _finite(value: Any) -> Any:
    """The value with null for each number that is not finite, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
