"""How long the table of statements takes here and in another checkout, in turns, with the numbers.

    python -m benchmarks.weak_order --against ../older --rounds 3
    python -m benchmarks.weak_order --against ../older --statement kink-crossed
    python -m benchmarks.weak_order --against ../older --method monte_carlo --statement sgd-eq7

Every run is a process of its own, compilation and start included. Seconds of the processor are
told beside those of the clock: on a machine with other work the clock measures that, too. The
verdicts and errors of the two checkouts are compared.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._record import add_json_flag, ratio, report

_HERE = Path(__file__).resolve().parent.parent
_COMPARED = ("errors", "sup_errors")


def run(checkout: Path, what: list[str]) -> tuple[float, float, list[dict[str, Any]]]:
    """Seconds of the clock and of the processor, and the stored rows, of one run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sde.weak_order", *what, "--no-plots"]
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "--output", folder, "--run", "timed"],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout)},
            capture_output=True,
            text=True,
        )
        wall = time.perf_counter() - start
        # 1 says that a verdict is not the expected one, which is told by the rows.
        if done.returncode not in (0, 1):
            raise SystemExit(f"{checkout}: {done.stderr}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
        return wall, cpu, json.loads((Path(folder) / "timed" / "results.json").read_text())


def largest_difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """Between the errors of the same rows, over problems, test functions and step sizes.

    A number that is null in one of them alone, and not finite there, is infinitely far.
    """
    pairs = zip(ours, theirs, strict=True)
    return max(
        _apart(a, b)
        for one, other in pairs
        for problem, found in one["reports"].items()
        for key in _COMPARED
        for name, values in (found[key] or {}).items()
        for a, b in zip(values, other["reports"][problem][key][name], strict=True)
    )


def _apart(a: float | None, b: float | None) -> float:
    if a is None or b is None:
        return 0.0 if a is b else math.inf
    return abs(a - b)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", type=Path, required=True, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--statement", help="one row; by default all that the method has")
    parser.add_argument("--method", choices=("exact", "monte_carlo"), default="exact")
    add_json_flag(parser)
    args = parser.parse_args(argv)
    what = ["--method", args.method]
    what += ["--all"] if args.statement is None else ["--statement", args.statement]
    checkouts = {"here": _HERE, "against": args.against.resolve()}
    wall: dict[str, list[float]] = {name: [] for name in checkouts}
    cpu: dict[str, list[float]] = {name: [] for name in checkouts}
    found = {}
    for turn in range(args.rounds):
        for name in sorted(checkouts, reverse=turn % 2 == 1):
            seconds, used, found[name] = run(checkouts[name], what)
            wall[name].append(seconds)
            cpu[name].append(used)
    verdicts = [[row["verdict"] for row in rows] for rows in found.values()]
    rows = [
        {
            "clock": clock,
            "seconds_here": min(seconds["here"]),
            "seconds_against": min(seconds["against"]),
            "against_over_here": ratio(seconds["against"], seconds["here"]),
            "rounds": [list(pair) for pair in zip(*seconds.values(), strict=True)],
            "same_verdicts": verdicts[0] == verdicts[1],
            "largest_difference": largest_difference(found["here"], found["against"]),
        }
        for clock, seconds in (("wall", wall), ("cpu", cpu))
    ]
    report("benchmarks.weak_order", sys.argv[1:] if argv is None else argv, rows, args.json)


if __name__ == "__main__":
    main()
