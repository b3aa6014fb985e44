from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Tracker(Protocol):
    """Receives the numbers and texts of a run.

    Steps are counted from 0, the state before training. `log` may be called more than once for a
    step. A run that is resumed calls again with the steps that follow its newest checkpoint.
    """

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log numbers that are the same when the run is repeated."""
        ...

    def log_timing(self, step: int, timings: Mapping[str, float]) -> None:
        """Log numbers that differ between repetitions, such as seconds."""
        ...

    def log_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        """Log the score of each held-out question, by id."""
        ...

    def log_texts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log sampled texts.

        Args:
            step: the step that they were sampled in.
            rows: one mapping per response. All values can be written as JSON.
        """
        ...

    def close(self) -> None:
        """Write buffered data and close files and connections."""
        ...


class SilentTracker:
    """A tracker that records nothing, and a base for trackers with only some of the methods.

    >>> from pgpo_jax.training import SilentTracker, Tracker
    >>> class Printer(SilentTracker):
    ...     def log(self, step, metrics):
    ...         print(step, metrics["loss"])
    >>> printer = Printer()
    >>> printer.log(1, {"loss": 0.5})
    1 0.5
    >>> printer.log_timing(1, {"seconds/step": 2.0})
    >>> isinstance(printer, Tracker)
    True
    """

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        del step, metrics

    def log_timing(self, step: int, timings: Mapping[str, float]) -> None:
        del step, timings

    def log_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        del step, scores

    def log_texts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        del step, rows

    def close(self) -> None: ...
