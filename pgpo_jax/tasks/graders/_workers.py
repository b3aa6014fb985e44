import contextlib
import json
import os
import queue
import selectors
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

from pgpo_jax.errors import PGPORuntimeError

# Time for importing a large library does not count against the row that waits for it.
_START_SECONDS = 120.0


class WorkerTimeout(Exception):
    """The worker did not reply within the limit, and was killed."""


class WorkerDied(Exception):
    """The worker ended before it replied."""


class Worker:
    """A process that answers lines of JSON with lines of JSON and can be killed at any time.

    It runs a script in a new interpreter, without the memory, the main module and the threads of
    this process.
    """

    def __init__(self, script: Path) -> None:
        kept = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "TMPDIR")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in kept if name in os.environ},
            # An interrupt from the keyboard goes to this process, which then ends the others.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._ready = False

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """The reply to a request.

        Args:
            request: any JSON value.
            timeout: time limit in seconds, without the start of the worker.

        Raises:
            WorkerTimeout: there was no reply in time. The worker has been killed.
            WorkerDied: the worker has ended, for any reason.
        """
        try:
            if not self._ready:
                self._read_line(_START_SECONDS)
                self._ready = True
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._read_line(timeout))
        except BrokenPipeError:
            raise WorkerDied from None

    def _read_line(self, timeout: float) -> bytes:
        assert self._process.stdout is not None
        end, line = time.monotonic() + timeout, b""
        while not line.endswith(b"\n"):
            if not self._selector.select(max(end - time.monotonic(), 0)):
                self.kill()
                raise WorkerTimeout
            part = os.read(self._process.stdout.fileno(), 65536)
            if not part:
                self.kill()
                raise WorkerDied
            line += part
        return line

    def kill(self) -> None:
        """End the process and wait for it."""
        self._process.kill()
        self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class WorkerPool:
    """A pool of workers, which are started when needed and replaced when they end."""

    def __init__(self, script: Path, size: int) -> None:
        self._script = script
        self._idle: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        for _ in range(size):
            self._idle.put(None)
        self._workers: set[Worker] = set()
        # This also runs when the interpreter exits.
        self.close = weakref.finalize(self, _kill_all, self._workers)

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """`Worker.ask` of an idle worker; waits until one is idle."""
        if not self.close.alive:
            raise PGPORuntimeError("this grader has been closed")
        worker = self._idle.get()
        try:
            if worker is None:
                worker = Worker(self._script)
                self._workers.add(worker)
            reply = worker.ask(request, timeout)
        except BaseException:
            # After any error, the worker's next line would be the reply to this request.
            if worker is not None:
                self._workers.discard(worker)
                worker.kill()
            self._idle.put(None)
            raise
        self._idle.put(worker)
        return reply


def _kill_all(workers: set[Worker]) -> None:
    while workers:
        workers.pop().kill()
