"""A cell of `benchmarks.peers`: what takes turns, and the record of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._child import Child, taking_turns

Side = dict[str, Any]
"""`seconds` of the rounds that count; `first_seconds`, `peak_mb`, `first_loss` where known."""


class Setting(NamedTuple):
    """What every cell is measured with.

    Attributes:
        python: interpreter of the environment with the peers.
        folder: an empty folder for models and caches.
        rounds: timed calls of each side.
    """

    python: str
    folder: Path
    rounds: int


class Cell(NamedTuple):
    """One comparison.

    Attributes:
        part: `step`, `sample`, `ensemble` or `start`.
        name: of the cell within its part.
        title: what a table calls it.
        once: seconds that it takes once, on two cores: a rough estimate.
        each: seconds of a round, on two cores: a rough estimate.
        ours: the sides that are ours; all others are compared with each of them.
        measure: takes the turns and returns the sides by name, and the versions.
        made: things made in one call, and their name, for a rate; or None.
    """

    part: str
    name: str
    title: str
    once: float
    each: float
    ours: Sequence[str]
    measure: Callable[[Setting], tuple[dict[str, Side], dict[str, Any]]]
    made: tuple[int, str] | None = None


def record_of(cell: Cell, setting: Setting) -> dict[str, Any]:
    """Measures a cell.

    Returns:
        Its record: names, sides, versions, date, rounds, and the load of the machine.

    Raises:
        RuntimeError: a side that fails, or sides that do not do the same work.
    """
    before = os.getloadavg()[0]
    sides, versions = cell.measure(setting)
    return {
        "part": cell.part,
        "cell": cell.name,
        "title": cell.title,
        "ours": list(cell.ours),
        "made": cell.made,
        "rounds": setting.rounds,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load": [before, os.getloadavg()[0]],
        "versions": versions,
        "sides": sides,
    }


def in_processes(
    commands: Mapping[str, Sequence[str]], rounds: int, **kw: Any
) -> tuple[dict[str, Side], dict[str, Any]]:
    """Measures sides that are processes, each with its own memory.

    Args:
        commands: start the processes, by side.
        rounds: answers of each that count.
        kw: further arguments of `subprocess.Popen`.

    Returns:
        The sides, and what each process says of itself.

    Raises:
        RuntimeError: a process that does not start, or fails.
    """
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        for name, command in commands.items():
            children[name] = Child(command, **kw)
            stack.callback(children[name].close)
            if "error" in children[name].about:
                raise RuntimeError(f"{name} does not start: {children[name].about['error']}")
        answers = taking_turns(children, rounds)
        about = {name: child.about for name, child in children.items()}
    return {name: side_of(found) for name, found in answers.items()}, about


def side_of(answers: Sequence[Mapping[str, Any]]) -> Side:
    """The record of a side, from its answers; the first one warmed up.

    >>> side_of([{"seconds": 9.0}, {"seconds": 2.0, "peak_mb": 5.0}])
    {'seconds': [2.0], 'first_seconds': 9.0, 'peak_mb': 5.0}
    """
    side: Side = {
        "seconds": [answer["seconds"] for answer in answers[1:]],
        "first_seconds": answers[0]["seconds"],
    }
    if "loss" in answers[0]:
        side["first_loss"] = answers[0]["loss"]
    if "peak_mb" in answers[-1]:
        side["peak_mb"] = answers[-1]["peak_mb"]
    return side
