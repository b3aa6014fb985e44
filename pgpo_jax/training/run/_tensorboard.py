import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import RecordWriter
from tensorboardX.proto.event_pb2 import (  # protobuf creates these names at import.
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboardX.summary import scalar

from pgpo_jax.training.run._tracker import SilentTracker

_FLUSH_SECONDS = 10.0


class TensorBoardTracker(SilentTracker):
    """Write metrics and timings as TensorBoard's events into `tensorboard/`.

    Texts are not written; they are in `texts.jsonl`. The events reach the disk within about ten
    seconds, and all of them when the tracker is closed.

    Args:
        folder: the run folder.
        config: not used here; all trackers are called with it.
        last_step: step that the run is resumed from; -1 for a new run. TensorBoard hides older
            events of later steps.

    Raises:
        OSError: if the events cannot be written.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from pgpo_jax.training import TensorBoardTracker
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tracker = TensorBoardTracker(Path(folder))
    ...     tracker.log(1, {"loss": 0.5})
    ...     tracker.close()
    ...     len(list((Path(folder) / "tensorboard").iterdir()))
    1

    Added in version 0.2.0.
    """

    def __init__(
        self, folder: Path, *, config: Mapping[str, Any] | None = None, last_step: int = -1
    ):
        del config
        path = folder / "tensorboard"
        path.mkdir(parents=True, exist_ok=True)
        first = last_step + 1
        # A run that is resumed within a second must not overwrite the older file.
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{first:09d}"
        # tensorboardX's SummaryWriter writes from a thread behind a queue of ten events. When the
        # disk is full the thread dies, and the next calls wait for the queue for ever. Its
        # RecordWriter writes in the caller's thread, so that the error reaches the caller.
        self._writer = RecordWriter(str(path / name))
        self._flushed = time.monotonic()
        self._add(Event(file_version="brain.Event:2"))
        # From this step on TensorBoard hides the events of older files.
        self._add(Event(step=first, file_version="brain.Event:2"))
        self._add(Event(step=first, session_log=SessionLog(status=SessionLog.START)))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._add(Event(step=step, summary=scalar(name, value)))
        now = time.monotonic()
        if now - self._flushed >= _FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = now

    def log_timing(self, step: int, timings: Mapping[str, float]) -> None:
        self.log(step, timings)

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())

    def close(self) -> None:
        self._writer.close()
