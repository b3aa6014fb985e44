import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pgpo_jax.training.run._service_run import ServiceRun, import_service, table
from pgpo_jax.training.run._tracker import SilentTracker

# Without a network the end of a run would wait for the upload for ever. Data that was not uploaded
# stays in the run folder, for `wandb sync`.
_UPLOAD_SECONDS = 120.0


class WandbTracker(SilentTracker):
    """Send metrics, timings and a table of texts to Weights & Biases (extra `wandb`).

    The id of the run is stored in `wandb.json` in the run folder, and a resumed run continues it.
    Weights & Biases refuses a step that is older than its newest. So steps that were sent before
    are made again with the same numbers but not sent again. `WANDB_MODE=offline`, `WANDB_PROJECT`
    and `WANDB_NAME` work as usual. Offline, each process of a run writes its own folder below
    `wandb/`, and `wandb sync` joins them by the id.

    Args:
        folder: the run folder; local files are written to its `wandb/`.
        config: the configuration to show, which may be nested.
        last_step: not used here; `wandb.json` holds the last step that was sent.
        name: name to show; by default that of the folder.
        project: project of the run; by default `WANDB_PROJECT`, or else `pgpo-jax`.

    Raises:
        ImportError: wandb is not installed.
        ValueError: `wandb.json` is damaged.

    Added in version 0.2.0.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: Mapping[str, Any],
        last_step: int = -1,
        name: str | None = None,
        project: str | None = None,
    ):
        del last_step
        self._handled = sys.exc_info()[1]
        self._wandb = import_service("wandb")
        self._kept = ServiceRun(folder / "wandb.json")
        known = self._kept.names
        project = project or os.environ.get("WANDB_PROJECT") or "pgpo-jax"
        self._run = self._wandb.init(
            id=known.get("id"),
            project=known.get("project", project),
            entity=known.get("entity"),
            resume="allow" if known else None,
            name=name or os.environ.get("WANDB_NAME") or folder.name,
            dir=str(folder),
            config=dict(config),
            # A resumed run may have more steps, for instance.
            allow_val_change=bool(known),
            # A run of the caller, or of an earlier training, is a separate one.
            reinit="create_new",
            settings=self._wandb.Settings(finish_timeout=_UPLOAD_SECONDS),
        )
        run = self._run
        self._kept.begin({"id": run.id, "project": run.project, "entity": run.entity or None})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._kept.is_new(step):
            self._run.log(dict(metrics), step=step)

    def log_timing(self, step: int, timings: Mapping[str, float]) -> None:
        self.log(step, timings)

    def log_texts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        columns, cells = table(rows)
        if columns and self._kept.is_new(step):
            texts = self._wandb.Table(columns=columns, data=cells, allow_mixed_types=True)
            self._run.log({"texts": texts}, step=step)

    def close(self) -> None:
        # A run that an exception ends is shown as failed. An exception that the caller was
        # handling before the run began is not the run's.
        failed = sys.exc_info()[1] not in (None, self._handled)
        self._run.finish(exit_code=int(failed))
