"""A training step of a pretrained model, here and in TRL: `python -m benchmarks.real_step`.

    python -m benchmarks.real_step --trl PYTHON --json real_step.json

Both have the same weights (the folder that `make smollm2` makes), the same random tokens and the
same loss, in float32 on all cores. The loss is SDPO on the 100 most likely tokens and a tail, with
EMA teacher, AdamW and clipping. Ours is PGPO, so it also measures the information. TRL is timed as
it is written and with `torch.compile`. Each side is a process, and they take turns. The first step
of each, which compiles, is reported separately.

The rows are responses to `--questions` questions. `prompts shared` reads each prompt once for all
of them (`rollout.share_prompts`), with `--chunk` tokens at a time in the loss. TRL reads a prompt
for every row. `--remat` lets our sides compute the layers again in the backward pass.

Memory is the largest resident set of each process, interpreter, libraries and compilers included.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks._child import Child, taking_turns
from benchmarks._record import add_json_flag, ratio, report

OURS = ("pgpo", "pgpo, prompts shared")
KINDS = (*OURS, "trl eager", "trl compiled")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="models/smollm2-135m-instruct")
    parser.add_argument("--trl", required=True, metavar="PYTHON", help="with torch and trl")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--questions", type=int, default=1, help="whose responses the rows are")
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--teacher-prompt", type=int, default=128)
    parser.add_argument("--response", type=int, default=128)
    parser.add_argument("--chunk", type=int, default=256, help="of the loss, prompts shared")
    parser.add_argument("--remat", action="store_true", help="ours: store no layer outputs")
    parser.add_argument("--rounds", type=int, default=5)
    add_json_flag(parser)
    args = parser.parse_args(arguments)
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    if args.questions < 1 or args.rows % args.questions:
        parser.error(f"--questions must divide --rows {args.rows}, got {args.questions}")
    if shutil.which(args.trl) is None:
        parser.error(f"--trl must be an interpreter, got {args.trl!r}")
    return args


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    """What starts each side."""
    names = ("rows", "questions", "prompt", "teacher_prompt", "response")
    sizes = {name: getattr(args, name) for name in names}
    shape, own = json.dumps(sizes), sizes | ({"remat": True} if args.remat else {})
    shared = json.dumps(own | {"share_prompts": True, "chunk": args.chunk})
    ours = [sys.executable, "-m", "benchmarks._model_steps", args.model]
    script = str(Path(__file__).with_name("_trl_steps.py"))
    return {
        OURS[0]: [*ours, json.dumps(own)],
        OURS[1]: [*ours, shared],
        "trl eager": [args.trl, script, args.model, shape, "eager"],
        "trl compiled": [args.trl, script, args.model, shape, "compiled"],
    }


def compared(answers: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each side.

    Args:
        answers: of each side, its first step first; all have as many.

    Returns:
        Median seconds of the later steps, seconds of the first, peak memory and the first loss.
        Then ratios of ours to it within a round: `ours` without shared prompts, `shared` with them.
    """
    rows = []
    own = {"ours": answers.get(OURS[0]), "shared": answers.get(OURS[1])}
    for name, steps in answers.items():
        seconds = [step["seconds"] for step in steps[1:]]
        row = {
            "side": name,
            "seconds": statistics.median(seconds),
            "first_step": steps[0]["seconds"],
            "peak_mb": steps[-1]["peak_mb"],
            "first_loss": steps[0]["loss"],
        }
        for label, ours in own.items():
            if ours is None or name in OURS:
                continue
            time = ratio([step["seconds"] for step in ours[1:]], seconds)
            row |= {f"{label}_to_it_{part}": value for part, value in time.items()}
            row[f"memory_{label}_to_it"] = ours[-1]["peak_mb"] / steps[-1]["peak_mb"]
        rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse(arguments)
    sides = {name: Child(command) for name, command in commands(args).items() if name in args.only}
    for name, side in list(sides.items()):
        if "error" in side.about:
            print(f"{name} is not measured: {side.about['error']}", file=sys.stderr)
            sides.pop(name)
    load = os.getloadavg()[0]
    try:
        answers = taking_turns(sides, args.rounds)
    except RuntimeError as error:
        raise SystemExit(str(error)) from error
    for side in sides.values():
        side.close()
    given = sys.argv[1:] if arguments is None else arguments
    loads = {"load_before": load, "load_after": os.getloadavg()[0]}
    return report("benchmarks.real_step", given, compared(answers), args.json, **loads)


if __name__ == "__main__":
    main()
