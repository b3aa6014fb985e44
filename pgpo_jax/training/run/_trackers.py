import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tensorboardX import SummaryWriter

from pgpo_jax.training.run._run_folder import cut_jsonl

_INF = float("inf")


@runtime_checkable
class Tracker(Protocol):
    """Receives the numbers of a run."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Numbers that are the same whenever the run is repeated."""
        ...

    def log_timing(self, step: int, timings: dict[str, float]) -> None:
        """Numbers that are not."""
        ...

    def log_evaluation(self, step: int, scores: dict[str, float]) -> None:
        """The score of each held-out question, by its id."""
        ...

    def close(self) -> None: ...


class SilentTracker:
    """Keeps nothing: for the processes that do not write."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        del step, metrics

    def log_timing(self, step: int, timings: dict[str, float]) -> None:
        del step, timings

    def log_evaluation(self, step: int, scores: dict[str, float]) -> None:
        del step, scores

    def close(self) -> None: ...


class FolderTracker:
    """Writes `metrics.jsonl`, `evaluations.jsonl`, `timings.jsonl` and TensorBoard events.

    Timings have a file of their own, so that the metrics of a resumed run equal those of an
    unbroken one, digit for digit.

    Args:
        folder: the run folder.
        last_step: lines after this step are dropped; -1 for a new run.
        tensorboard: whether to write TensorBoard's events, too.
    """

    def __init__(self, folder: Path, *, last_step: int = -1, tensorboard: bool = True):
        names = ("metrics", "evaluations", "timings")
        for name in names:
            cut_jsonl(folder / f"{name}.jsonl", last_step)
        self._files = {name: (folder / f"{name}.jsonl").open("a") for name in names}
        self._board = (
            SummaryWriter(str(folder / "tensorboard"), purge_step=last_step + 1)
            if tensorboard
            else None
        )

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._write("metrics", step, metrics)
        self._plot(step, metrics)

    def log_timing(self, step: int, timings: dict[str, float]) -> None:
        self._write("timings", step, timings)
        self._plot(step, timings)

    def log_evaluation(self, step: int, scores: dict[str, float]) -> None:
        self._write("evaluations", step, {"scores": scores})

    def _write(self, name: str, step: int, values: dict[str, Any]) -> None:
        # JSON has no NaN: what is not finite becomes null.
        finite = {k: None if v != v or v in (_INF, -_INF) else v for k, v in values.items()}
        self._files[name].write(json.dumps({"step": step, **finite}) + "\n")
        self._files[name].flush()

    def _plot(self, step: int, values: dict[str, float]) -> None:
        if self._board is None:
            return
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        if self._board is not None:
            self._board.close()
