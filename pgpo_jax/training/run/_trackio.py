import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pgpo_jax.training.run._service_run import ServiceRun, import_service, table
from pgpo_jax.training.run._tracker import SilentTracker


class TrackioTracker(SilentTracker):
    """Send metrics, timings and a table of texts to trackio (extra `trackio`).

    trackio writes to its own database on this machine, or to the address in `TRACKIO_SPACE_ID` or
    `TRACKIO_SERVER_URL`. It identifies a run by its name. So the name is that of the folder with a
    few unique digits. It is stored in `trackio.json` in the run folder, and a resumed run continues
    it. trackio would store a step twice. So steps that were sent before are made again with the
    same numbers but not sent again.

    Args:
        folder: the run folder.
        config: the configuration to show, which may be nested.
        last_step: not used here; `trackio.json` holds the last step that was sent.
        name: beginning of the name; by default that of the folder.
        project: the project that the run is shown in.

    Raises:
        ImportError: trackio is not installed.
        ValueError: `trackio.json` is damaged.

    Added in version 0.2.0.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: Mapping[str, Any],
        last_step: int = -1,
        name: str | None = None,
        project: str = "pgpo-jax",
    ):
        del last_step
        self._trackio = import_service("trackio")
        self._kept = ServiceRun(folder / "trackio.json")
        known = self._kept.names
        names = known or {
            "name": f"{name or folder.name}-{uuid.uuid4().hex[:8]}",
            "project": project,
        }
        self._run = self._trackio.init(**names, config=dict(config), resume="allow")
        self._kept.begin(names)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._kept.is_new(step):
            self._run.log(dict(metrics), step=step)

    def log_timing(self, step: int, timings: Mapping[str, float]) -> None:
        self.log(step, timings)

    def log_texts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        columns, cells = table(rows)
        if columns and self._kept.is_new(step):
            texts = self._trackio.Table(columns=columns, data=cells)
            self._run.log({"texts": texts}, step=step)

    def close(self) -> None:
        self._run.finish()
