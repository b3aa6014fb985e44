"""A child process that answers requests of a benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks._rotation import rotation


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


def taking_turns(
    children: Mapping[str, Child], rounds: int, request: Mapping[str, Any] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The answers of each process to one request after the other; the order rotates.

    Args:
        children: processes that answer the request with their own `seconds`.
        rounds: answers of each that count.
        request: what all are asked; the number of the round is added as `turn`.

    Returns:
        By name `rounds + 1` answers. The first is that of a round that warms up.

    Raises:
        RuntimeError: a process that fails.
    """
    names = list(children)
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn, name in rotation(names, rounds):
        answer = children[name].ask({**(request or {}), "turn": turn})
        if "error" in answer:
            raise RuntimeError(f"{name}: {answer['error']}")
        answers[name].append(answer)
        print(f"{name}, round {turn}: {answer['seconds']:.4g} s", file=sys.stderr, flush=True)
    return answers
