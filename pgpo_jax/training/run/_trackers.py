import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pgpo_jax._files import is_object_spec, load_object
from pgpo_jax.errors import PGPOImportError, PGPOTypeError, PGPOValueError
from pgpo_jax.training.run._guarded import GuardedTracker, warn_of_failure
from pgpo_jax.training.run._json_lines import JSONLinesTracker
from pgpo_jax.training.run._tensorboard import TensorBoardTracker
from pgpo_jax.training.run._tracker import Tracker
from pgpo_jax.training.run._trackio import TrackioTracker
from pgpo_jax.training.run._wandb import WandbTracker

TRACKERS: dict[str, Callable[..., Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
    "trackio": TrackioTracker,
}
"""Trackers by name. Each is called with `folder=`, `config=` and `last_step=`.

Added in version 0.2.0.
"""

_METHODS = ("log", "log_timing", "log_evaluation", "log_texts", "close")


def make_trackers(
    trackers: Sequence[str | Tracker | Callable[..., Tracker]],
    folder: Path,
    *,
    config: Mapping[str, Any],
    last_step: int = -1,
) -> Tracker:
    """Combine the trackers of a run: always JSON lines, then the requested ones.

    An error of the JSON lines stops the run. Any other tracker is dropped at its first error, with
    a warning, and the run continues; see `GuardedTracker`. If such a tracker cannot begin, a new
    run stops, because nothing is lost yet. A resumed run continues without it, unless a package is
    missing.

    Args:
        trackers: names in `TRACKERS`, `FILE.py:NAME` for a class of your own, classes, or objects
            with the methods of `Tracker`. A class is called with `folder=`, `config=` and
            `last_step=`.
        folder: the run folder.
        config: the configuration of the run, which may be nested, for the trackers that show it.
        last_step: the step that the run is resumed from; -1 for a new run.

    Raises:
        ValueError: a name is unknown, or a file does not define it.
        FileNotFoundError: a file does not exist.
        TypeError: an object lacks a method of `Tracker`, or a class does not take the three
            arguments.
        ImportError: a tracker needs a package that is not installed.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from pgpo_jax.training import SilentTracker, make_trackers, read_jsonl
    >>> class Printer(SilentTracker):
    ...     def log(self, step, metrics):
    ...         print(step, metrics)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tracker = make_trackers(["tensorboard", Printer()], Path(folder), config={})
    ...     tracker.log(1, {"loss": 0.5})
    ...     tracker.close()
    ...     read_jsonl(Path(folder) / "metrics.jsonl")
    1 {'loss': 0.5}
    [{'step': 1, 'loss': 0.5}]

    Added in version 0.2.0.
    """
    # All names are looked up before anything is written.
    makers = [_maker(tracker) for tracker in trackers]
    made: list[Tracker] = [JSONLinesTracker(folder, last_step=last_step)]
    with ExitStack() as stack:
        stack.callback(lambda: _Trackers(made).close())
        for tracker, make in zip(trackers, makers, strict=True):
            try:
                one = make(folder=folder, config=config, last_step=last_step)
                _check(tracker, one)
            except Exception as error:
                if last_step < 0 or isinstance(error, PGPOImportError):
                    raise
                warn_of_failure(f"the tracker {tracker!r}", "to begin", error)
            else:
                made.append(GuardedTracker(one))
        stack.pop_all()
    return _Trackers(made)


def check_trackers(trackers: Sequence[Any]) -> None:
    """Refuse trackers that cannot be made, before anything is written.

    Raises:
        ValueError: an unknown name.
        TypeError: a string in place of a sequence, or an object that is no tracker.
    """
    if isinstance(trackers, str):
        raise PGPOTypeError(f"trackers must be a sequence of trackers, got the string {trackers!r}")
    for tracker in trackers:
        _maker(tracker)


def _maker(tracker: Any) -> Callable[..., Tracker]:
    if isinstance(tracker, str) and is_object_spec(tracker):
        return _own(tracker, load_object(tracker))
    if inspect.isclass(tracker) or inspect.isroutine(tracker):
        return _own(tracker, tracker)
    if not isinstance(tracker, str):
        _check(tracker, tracker)
        return lambda **_: tracker
    if tracker not in TRACKERS:
        raise PGPOValueError(
            f"a tracker must be one of {', '.join(TRACKERS)} or FILE.py:NAME, got {tracker!r}"
        )
    return TRACKERS[tracker]


def _own(asked: Any, make: Any) -> Callable[..., Tracker]:
    try:
        inspect.signature(make).bind(folder=None, config=None, last_step=None)
    except (TypeError, ValueError) as error:
        raise PGPOTypeError(
            f"the class of a tracker must take folder=, config= and last_step=, got {asked!r}: "
            f"{error}"
        ) from None
    return make


def _check(asked: Any, tracker: Any) -> None:
    missing = [name for name in _METHODS if not callable(getattr(tracker, name, None))]
    if missing:
        raise PGPOTypeError(
            f"a tracker must have the methods {', '.join(_METHODS)}; {asked!r} gives a "
            f"{type(tracker).__name__} without {', '.join(missing)}"
        )


class _Trackers:
    """Pass each call to all trackers, in order."""

    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = tuple(trackers)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(step, metrics)

    def log_timing(self, step: int, timings: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log_timing(step, timings)

    def log_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log_evaluation(step, scores)

    def log_texts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        for tracker in self._trackers:
            tracker.log_texts(step, rows)

    def close(self) -> None:
        # All trackers are closed even if one of them raises.
        with ExitStack() as stack:
            for tracker in reversed(self._trackers):
                stack.callback(tracker.close)
