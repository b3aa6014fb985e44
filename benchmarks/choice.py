"""The choice of a token, this build beside another: by vocabulary, rows and filters.

    git worktree add ../before 9534d8d
    python -m benchmarks.choice --old ../before --json choice.json

`call` is a `sample` of a random model of 4 layers and width 256. `choice` is one of 1 layer and
width 8, whose time is nearly all in the choice of the tokens. Each build runs in a process of its
own, and the two take turns. A ratio above 1 says that this build is faster.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks._child import Child
from benchmarks._record import add_json_flag, in_turns, ratio, report

ROOT = Path(__file__).parents[1]
FILTERS: dict[str, dict[str, Any]] = {
    "none": {"top_p": 1.0, "top_k": None},
    "top_p": {"top_p": 0.9, "top_k": None},
    "top_k": {"top_p": 1.0, "top_k": 50},
    "both": {"top_p": 0.9, "top_k": 50},
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--old", type=Path, required=True, help="checkout of the other build")
    parser.add_argument("--what", nargs="+", default=["choice", "call"], choices=["choice", "call"])
    parser.add_argument("--vocab", type=int, nargs="+", default=[8192, 32768, 151936])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--filters", nargs="+", default=["none", "top_p"], choices=list(FILTERS))
    parser.add_argument("--steps", type=int, default=32, help="tokens of a row")
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of each")
    add_json_flag(parser)
    args = parser.parse_args(arguments)
    if args.rounds < 1 or args.steps < 1:
        parser.error(f"--rounds and --steps must be at least 1, got {args.rounds}, {args.steps}")
    return args


def started(folder: Path) -> Child:
    """The process of a build.

    Args:
        folder: its checkout.

    Returns:
        A process that waits for requests.

    Raises:
        RuntimeError: if it does not start.
    """
    script = str(Path(__file__).with_name("_choices_on_request.py"))
    child = Child([sys.executable, script, str(folder.resolve())], cwd=folder)
    if "error" in child.about:
        child.close()
        raise RuntimeError(f"the build in {folder} does not start: {child.about['error']}")
    return child


def compared(children: dict[str, Child], request: dict[str, Any], rounds: int) -> dict[str, float]:
    """Milliseconds of a step of each build, and the ratio of old to new.

    Args:
        children: `new` and `old`.
        request: what both are asked.
        rounds: calls that count.

    Raises:
        RuntimeError: a build that fails.
    """
    seconds: dict[str, list[float]] = {name: [] for name in children}

    def one(name: str) -> None:
        answer = children[name].ask(request)
        if "error" in answer:
            raise RuntimeError(f"the {name} build fails: {answer['error']}")
        seconds[name].append(answer["seconds"])

    # Each side times itself, so that the pipe is no part of its seconds.
    in_turns({name: lambda name=name: one(name) for name in children}, rounds)
    timed = {name: found[1:] for name, found in seconds.items()}
    steps = {
        f"{name}_ms": 1e3 * statistics.median(found) / request["steps"]
        for name, found in timed.items()
    }
    ratios = ratio(timed["old"], timed["new"])
    return steps | {f"ratio_{name}": value for name, value in ratios.items()}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse(arguments)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        children = {"new": started(ROOT), "old": started(args.old)}
        for child in children.values():
            stack.callback(child.close)
        for what in args.what:
            for name in args.filters:
                for vocabulary in args.vocab:
                    for count in args.rows:
                        case = {"what": what, "vocab": vocabulary, "rows": count}
                        request = case | {"steps": args.steps} | FILTERS[name]
                        figures = compared(children, request, args.rounds)
                        rows.append(case | {"filter": name} | figures)
                        print(rows[-1], file=sys.stderr, flush=True)
    given = sys.argv[1:] if arguments is None else arguments
    return report("benchmarks.choice", given, rows, args.json)


if __name__ == "__main__":
    main()
