import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pgpo_jax.training.run._tracker import Tracker

_log = logging.getLogger("pgpo_jax")


class GuardedTracker:
    """Pass calls on to a tracker until one of them fails.

    The first exception is logged as a warning with its cause. The tracker is then closed, and later
    calls do nothing. It wraps all trackers except the JSON lines, so that a full disk or a lost
    connection does not end the run.

    Args:
        tracker: the tracker that may fail.

    >>> from pgpo_jax.training import GuardedTracker, SilentTracker
    >>> class Broken(SilentTracker):
    ...     def log(self, step, metrics):
    ...         raise OSError("no space left on device")
    >>> tracker = GuardedTracker(Broken())
    >>> tracker.log(1, {"loss": 0.5})  # warns
    >>> tracker.log(2, {"loss": 0.4})  # does nothing

    Added in version 0.2.0.
    """

    def __init__(self, tracker: Tracker):
        self._tracker: Tracker | None = tracker

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._call(lambda tracker: tracker.log(step, metrics), f"at step {step}")

    def log_timing(self, step: int, timings: Mapping[str, float]) -> None:
        self._call(lambda tracker: tracker.log_timing(step, timings), f"at step {step}")

    def log_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        self._call(lambda tracker: tracker.log_evaluation(step, scores), f"at step {step}")

    def log_texts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self._call(lambda tracker: tracker.log_texts(step, rows), f"at step {step}")

    def close(self) -> None:
        self._call(lambda tracker: tracker.close(), "when it was closed")
        self._tracker = None

    def _call(self, call: Callable[[Tracker], None], when: str) -> None:
        tracker = self._tracker
        if tracker is None:
            return
        try:
            call(tracker)
        except Exception as error:
            self._tracker = None
            warn_of_failure(type(tracker).__name__, when, error)
            # It has failed already, and the cause has been logged.
            with suppress(Exception):
                tracker.close()


def warn_of_failure(name: str, when: str, error: Exception) -> None:
    """Warn that a tracker is dropped, with the cause."""
    _log.warning(
        "%s failed %s and is off from now on; the run goes on, and its JSON lines have all "
        "numbers: %s: %s",
        name,
        when,
        type(error).__name__,
        error,
        exc_info=error,
    )
