"""Signals that end a run: the first one after the current step, a second one at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Schedulers send SIGUSR1 as a warning some time before they kill a job.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")


class StopRequest:
    """The signal that requested the end of the run, if any."""

    number: int | None = None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first of these signals into a request; the next one has its usual effect.

    Outside the main thread Python allows no handlers, so signals are not changed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {}

    def restore() -> None:
        for number, handler in before.items():
            # A handler that was not set from Python cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def handler(number: int, frame: object) -> None:
        request.number = number
        restore()

    for number in numbers:
        # Ignored signals stay ignored: with `nohup` a run continues without its terminal.
        if signal.getsignal(number) is signal.SIG_IGN:
            continue
        before[number] = signal.signal(number, handler)
    try:
        yield request
    finally:
        restore()
