"""A child process that answers requests of a benchmark."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any


class Child:
    """Another process that answers requests over a pipe, one JSON object a line.

    Args:
        command: starts it. It first writes a line about itself.
        kw: further arguments of `subprocess.Popen`.

    Attributes:
        about: what it says of itself; `{"error": REASON}` if it cannot serve.
    """

    def __init__(self, command: Sequence[str], **kw: Any):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **kw
        )
        self.about = self._answer()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; `{"error": REASON}` if the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()

    def close(self) -> None:
        """Signal that no request will come, and wait for the end of the process."""
        # It closes both pipes, and is silent about one that is broken.
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended; see its message above"}
