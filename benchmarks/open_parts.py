"""The cost of the trainer made of parts: the time of its step relative to the former trainer.

    git clone . ../before && git -C ../before checkout f570cce
    make -C ../before install
    python -m benchmarks.open_parts --old ../before --json open_parts.json

Both run plain SDPO with the preset `tiny`, each in its own process. They take turns, so that step k
of one runs next to step k of the other. `again` is this build a second time. Its ratio shows the
noise of this machine. Both sides must compute the same metrics, or the ratio would compare
different work.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._child import Child
from benchmarks._record import add_json_flag, in_turns, ratio, report

ROOT = Path(__file__).parents[1]
PHASES = ("rollout", "experience", "update")


class Build(NamedTuple):
    """A checkout and the interpreter that has what it needs."""

    folder: Path
    python: Path


def started(name: str, build: Build) -> Child:
    """The process of a build.

    Args:
        name: for the message.
        build: what it runs.

    Returns:
        A process that has its model and waits.

    Raises:
        FileNotFoundError: no checkout or no interpreter there.
        RuntimeError: if it does not start.
    """
    for path in (build.folder / "pgpo_jax", build.python):
        if not path.exists():
            raise FileNotFoundError(f"the {name} build needs {path}, which does not exist")
    script = Path(__file__).with_name("_steps_on_request.py")
    child = Child([str(build.python), str(script), str(build.folder)], cwd=build.folder)
    if "error" in child.about:
        child.close()
        raise RuntimeError(f"the {name} build does not start: {child.about['error']}")
    return child


def answers_in_turns(
    builds: Mapping[str, Build], rounds: int
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Steps of all builds, in turns.

    Args:
        builds: by name.
        rounds: steps of each that count; one before them does not.

    Returns:
        Versions by name, and the answers by name, that of the first step included.

    Raises:
        ValueError: builds that run on different versions.
        RuntimeError: a build that fails in a step.
    """
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in builds}
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        for name, build in builds.items():
            children[name] = started(name, build)
            stack.callback(children[name].close)
        versions = {name: child.about for name, child in children.items()}
        if len({str(about) for about in versions.values()}) > 1:
            raise ValueError(f"all builds must run on the same versions, got {versions}")

        def step(name: str) -> Callable[[], None]:
            def run() -> None:
                answer = children[name].ask({"step": len(answers[name])})
                if "error" in answer:
                    raise RuntimeError(f"the {name} build fails in a step: {answer['error']}")
                answers[name].append(answer)

            return run

        # Each side times itself, so that the pipe is no part of its seconds.
        in_turns({name: step(name) for name in builds}, rounds)
    return versions, answers


def different_metrics(
    one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The metrics that two builds have in common and that differ in any step; NaN equals NaN.

    >>> step = {"metrics": {"loss": 1.0, "more": 2.0}}
    >>> different_metrics([step], [{"metrics": {"loss": 1.5, "less": 0.0}}])
    ['loss']
    """
    return sorted(
        {
            name
            for a, b in zip(one, other, strict=True)
            for name in a["metrics"].keys() & b["metrics"].keys()
            if repr(a["metrics"][name]) != repr(b["metrics"][name])
        }
    )


def figures(name: str, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row of the table, from a build's answers.

    Args:
        name: of the build.
        answers: those of all its steps; the first one compiles and is not counted.

    Returns:
        Seconds of a step (median, shortest, longest) and of its phases, and numbers of programs.
        The programs are those of the training step, all of them, and those that later steps
        compiled.
    """
    first, *later = answers
    seconds = [answer["seconds"] for answer in later]
    return {
        "build": name,
        "seconds": statistics.median(seconds),
        "shortest": min(seconds),
        "longest": max(seconds),
        **{
            f"{phase}_s": statistics.median(answer["timings"][f"time/{phase}"] for answer in later)
            for phase in PHASES
        },
        "step_programs": int(later[-1]["timings"]["compilations/step"]),
        "programs": later[-1]["programs"],
        "later_programs": later[-1]["programs"] - first["programs"],
    }


def measure(builds: Mapping[str, Build], rounds: int) -> tuple[list[dict[str, Any]], dict]:
    """Rows of the table, and what is said of pairs.

    Args:
        builds: `new`, `old` and `again`.
        rounds: steps that count.
    """
    versions, answers = answers_in_turns(builds, rounds)
    rows = [figures(name, found) for name, found in answers.items()]
    seconds = {name: [answer["seconds"] for answer in found[1:]] for name, found in answers.items()}
    pairs = {
        f"{above}/{below}": ratio(seconds[above], seconds[below])
        for above, below in (("new", "old"), ("new", "again"))
    }
    return rows, {
        "ratios": pairs,
        "different_metrics": different_metrics(answers["new"], answers["old"]),
        "versions": versions["new"],
        "seconds": seconds,
    }


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--old", type=Path, required=True, help="checkout of the build before")
    parser.add_argument(
        "--old-python", type=Path, help="its interpreter; default: .venv/bin/python in it"
    )
    parser.add_argument("--rounds", type=int, default=40, help="timed steps of each")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {arguments.rounds}")
    # Not resolved: a virtual environment's interpreter is known by where its link stands.
    old_python = (arguments.old_python or arguments.old / ".venv/bin/python").absolute()
    new = Build(ROOT, Path(sys.executable))
    builds = {"new": new, "old": Build(arguments.old.resolve(), old_python), "again": new}
    rows, more = measure(builds, arguments.rounds)
    record = report(
        "benchmarks.open_parts",
        sys.argv[1:] if argv is None else argv,
        rows,
        arguments.json,
        **more,
    )
    for name, value in more["ratios"].items():
        print("{}: time {median:.4f} ({low:.4f} to {high:.4f})".format(name, **value))
    different = more["different_metrics"]
    print("different metrics: " + (", ".join(different) or "none"))
    return record


if __name__ == "__main__":
    main()
