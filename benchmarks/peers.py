"""Steps, samples, ensembles and starts beside their peers, in turns: `python -m benchmarks.peers`.

    python -m benchmarks.peers --json peers.json                 # everything
    python -m benchmarks.peers --json peers.json --resume        # what is missing in the file
    python -m benchmarks.peers --only step --cells 8k-top100 --rounds 3
    python -m benchmarks.peers --table peers.json                # the tables of a file

- step: SDPO's step with AdamW and EMA teacher, here and in TRL 1.16, as written and compiled. There
  are 2 questions with 8 responses of 128 tokens. Ours runs with and without shared prompts.
- sample: `sample` and `generate` of transformers, vocabulary 8192, prompts of 64, 128 new tokens.
- ensemble: Euler paths by diffrax, as the package uses it, `lax.scan`, NumPy and torchsde.
- start: `pgpo --help`, and the first token of `pgpo sample` with and without kept programs.

The peers get an environment of their own, which the first run makes. A record has the seconds of
every round. Tables have medians, with the smallest and the largest value. Resident memory is the
largest of a process. A step whose first losses differ by more than rounding is an error.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import _peer_ensemble, _peer_sample, _peer_start, _peer_step
from benchmarks._peer_cell import Cell, Setting, record_of
from benchmarks._peer_environment import check_compiler, interpreter, usual_folder
from benchmarks._peer_table import markdown
from benchmarks._record import machine
from pgpo_jax.errors import PGPOValueError

PARTS = {
    "step": _peer_step.cells,
    "sample": _peer_sample.cells,
    "ensemble": _peer_ensemble.cells,
    "start": _peer_start.cells,
}
CELLS = {cell.name: cell for cells in PARTS.values() for cell in cells()}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line.

    Raises:
        SystemExit: an argument that is not one, with code 2.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), help="all by default")
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of each side")
    parser.add_argument("--json", type=Path, help="write the record here, after every cell")
    parser.add_argument("--resume", action="store_true", help="keep the cells that --json has")
    parser.add_argument(
        "--environment", type=Path, default=usual_folder(), help="of the peers; made if missing"
    )
    parser.add_argument("--table", type=Path, metavar="JSON", help="measure nothing; see above")
    args = parser.parse_args(arguments)
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    if args.resume and args.json is None:
        parser.error("--resume needs --json, the file to go on with")
    if args.json is not None and not args.json.resolve().parent.is_dir():
        parser.error(f"--json must be in a folder that is there, got {args.json}")
    args.chosen = [
        cell
        for cell in CELLS.values()
        if cell.part in args.only and (args.cells is None or cell.name in args.cells)
    ]
    if not args.chosen:
        parser.error(f"no cell of {args.cells} is in {args.only}")
    return args


def begun(args: argparse.Namespace, command: str) -> dict[str, Any]:
    """The record to write into: a new one, or that of the file to go on with.

    Raises:
        RuntimeError: the file is there and `--resume` is not, or it is of another machine.
    """
    here = machine()
    new = {"command": command, "machine": here, "rounds": args.rounds, "cells": []}
    if args.json is None or not args.json.exists():
        return new
    if not args.resume:
        raise RuntimeError(f"--json must not exist without --resume, got {args.json}")
    record = json.loads(args.json.read_text())
    if (record["machine"], record["rounds"]) != (here, args.rounds):
        raise RuntimeError(
            "--resume needs the machine, the versions and the rounds of the file, "
            f"got {here} and {args.rounds}, not {record['machine']} and {record['rounds']}"
        )
    return record


def minutes(cells: list[Cell], rounds: int) -> float:
    """Roughly how long cells take on two cores without other work."""
    return sum(cell.once + (rounds + 1) * cell.each for cell in cells) / 60


def _table(file: Path) -> str:
    """The tables of a record.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        return markdown(json.loads(file.read_text()))
    except (KeyError, TypeError, AttributeError) as error:
        raise PGPOValueError(f"--table must be a record of this program, got {file}") from error


def main(arguments: list[str] | None = None) -> int:
    """Measures what is asked for.

    Returns:
        0, or 2 after an error, which is one line on stderr.
    """
    args = parse(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if args.table is not None:
            print(_table(args.table))
            return 0
        record = begun(args, shlex.join(["python", "-m", "benchmarks.peers", *given]))
        done = {cell["cell"] for cell in record["cells"]}
        left = [cell for cell in args.chosen if cell.name not in done]
        print(
            f"{len(left)} cells, about {minutes(left, args.rounds):.0f} min on two cores",
            file=sys.stderr,
        )
        if any(cell.part == "step" for cell in left):
            check_compiler()
        python = interpreter(args.environment)
        for cell in left:
            print(f"{cell.part}: {cell.title}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                setting = Setting(python, Path(folder), args.rounds)
                record["cells"].append(record_of(cell, setting))
            if args.json is not None:
                args.json.write_text(json.dumps(record, indent=2) + "\n")
    except (OSError, RuntimeError, ValueError) as error:
        print(f"peers: error: {error}", file=sys.stderr)
        return 2
    print(markdown(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
