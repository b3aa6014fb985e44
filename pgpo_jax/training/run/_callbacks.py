"""Callbacks after steps, evaluations and checkpoints, and at the end of a run."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pgpo_jax.training.run._checkpoint import Checkpoints
from pgpo_jax.training.update._state import TrainState


@runtime_checkable
class Run(Protocol):
    """The interface of a run for a callback.

    Added in version 0.2.0.
    """

    @property
    def folder(self) -> Path:
        """The run folder."""
        ...

    @property
    def state(self) -> TrainState:
        """The newest state. The next step donates its arrays, so keep copies only.

        A callback may set it to a state of the same shapes.
        """
        ...

    @state.setter
    def state(self, state: TrainState) -> None: ...

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of all evaluations so far, as in `metrics.jsonl`."""
        ...

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The inputs of the run, for the record of a checkpoint."""
        ...

    @property
    def memory(self) -> dict[str, Any] | None:
        """The memory of the objective, for checkpoints; None if it has none."""
        ...

    def stop(self, reason: str) -> None:
        """End the run after this step, with its last evaluation and checkpoint.

        Before the first step there is nothing to save, and no step is made.
        """
        ...


class Callback:
    """Base class of callbacks. Override the methods that you need. All processes call it.

    >>> class Loud(Callback):
    ...     def on_evaluation(self, run, step, metrics, scores):
    ...         print(f"step {step}: {metrics['eval/accuracy']:.2f}")
    >>> Loud().on_evaluation(None, 5, {"eval/accuracy": 0.5}, {})
    step 5: 0.50

    Added in version 0.2.0.
    """

    def on_start(self, run: Run) -> None:
        """Called before the first step, also when a run is resumed."""

    def on_step(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """Called after each step, counted from 1."""

    def on_evaluation(
        self, run: Run, step: int, metrics: Mapping[str, float], scores: Mapping[str, float]
    ) -> None:
        """Called after each evaluation with its metrics and the score of each question by id."""

    def on_checkpoint(self, run: Run, step: int) -> None:
        """Called after each checkpoint, once it is complete on disk."""

    def on_end(self, run: Run) -> None:
        """Called when a started run ends, also after an error; the last callback comes first."""


class _Best:
    """The best value of a metric over evaluations."""

    def __init__(self, metric: str, best: Literal["largest", "smallest"], margin: float):
        self._metric, self._margin = metric, margin
        self._sign = 1.0 if best == "largest" else -1.0
        self._value = -math.inf
        self.since = 0

    def improves(self, metrics: Mapping[str, Any]) -> bool:
        """Record an evaluation and return whether it is a new best one. NaN never is."""
        value = metrics.get(self._metric)
        signed = -math.inf if value is None or math.isnan(value) else self._sign * value
        if signed > self._value + self._margin or (self._value == -math.inf and signed > -math.inf):
            self._value, self.since = signed, 0
            return True
        self.since += 1
        return False


class EarlyStopping(Callback):
    """Stop a run whose evaluations do not improve.

    Args:
        patience: number of evaluations in a row without a new best value.
        metric: of the evaluations.
        best: which value is the best.
        margin: how much better than the best so far a new best value must be.

    Added in version 0.2.0.
    """

    def __init__(
        self,
        patience: int,
        *,
        metric: str = "eval/accuracy",
        best: Literal["largest", "smallest"] = "largest",
        margin: float = 0.0,
    ):
        self._patience, self._metric = patience, metric
        self._fresh = functools.partial(_Best, metric, best, margin)
        self._best = self._fresh()

    def on_start(self, run: Run) -> None:
        """Record the evaluations that a resumed run has made already."""
        self._best = self._fresh()
        for row in run.history:
            self._look(run, row)

    def on_evaluation(
        self, run: Run, step: int, metrics: Mapping[str, float], scores: Mapping[str, float]
    ) -> None:
        """Stop the run if too many evaluations brought no new best value."""
        self._look(run, metrics)

    def _look(self, run: Run, metrics: Mapping[str, Any]) -> None:
        self._best.improves(metrics)
        if self._best.since >= self._patience:
            run.stop(f"{self._metric} has not become better for {self._patience} evaluations")


class BestCheckpoint(Callback):
    """Keep the checkpoint of the best evaluation in the run's folder `checkpoints-best`.

    Args:
        metric: of the evaluations.
        best: which value is the best.
        margin: how much better than the best so far a new best value must be.

    Added in version 0.2.0.
    """

    FOLDER = "checkpoints-best"

    def __init__(
        self,
        *,
        metric: str = "eval/accuracy",
        best: Literal["largest", "smallest"] = "largest",
        margin: float = 0.0,
    ):
        self._fresh = functools.partial(_Best, metric, best, margin)
        self._best = self._fresh()
        self._checkpoints: Checkpoints | None = None

    def on_start(self, run: Run) -> None:
        """Record the evaluations that a resumed run has made already."""
        self._best = self._fresh()
        for row in run.history:
            self._best.improves(row)
        self._checkpoints = Checkpoints(run.folder / self.FOLDER, keep=1, inputs=run.inputs)

    def on_evaluation(
        self, run: Run, step: int, metrics: Mapping[str, float], scores: Mapping[str, float]
    ) -> None:
        """Save the state if this evaluation is the best one so far."""
        if self._best.improves(metrics):
            assert self._checkpoints is not None
            self._checkpoints.save(run.state, run.memory)

    def on_end(self, run: Run) -> None:
        """Close the folder."""
        if self._checkpoints is not None:
            self._checkpoints.close()
