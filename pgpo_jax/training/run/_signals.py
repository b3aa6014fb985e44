"""Signals that ask a run to end: the first one is obeyed after the step, a second one at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# SIGUSR1 is the warning that schedulers send some time before they kill a job.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")


class StopRequest:
    """Whether a signal has asked the run to end, and which one."""

    number: int | None = None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turns the first of these signals into a request; the next has its usual effect.

    Outside the main thread, where Python allows no handlers, signals are left alone.
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
        # What is ignored stays so: `nohup` says that a run survives its terminal.
        if signal.getsignal(number) is signal.SIG_IGN:
            continue
        before[number] = signal.signal(number, handler)
    try:
        yield request
    finally:
        restore()
