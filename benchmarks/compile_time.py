"""How long the training step takes to compile, against the depth of the model.

    python -m benchmarks.compile_time [--json FILE] [--layers 4 28]

The step of the `tiny` preset with its largest batch, on abstract weights: a model of the given
depths, otherwise the same. JAX forgets what it has compiled before each, and the depths take
turns. Beside the time on the wall stands that of the processor, which other work on the machine
does not stretch.
"""

import argparse
import statistics
import sys
import time
from dataclasses import replace
from typing import Any, NamedTuple

import jax

from benchmarks._record import add_json_flag, ratio, report
from benchmarks.step_overhead import SHAPE
from pgpo_jax.training import PRESETS, abstract_step


class Seconds(NamedTuple):
    """What one compilation took: tracing, both, and both in processor time."""

    trace: float
    wall: float
    processor: float


def seconds_to_compile(layers: int) -> Seconds:
    """Traces and compiles the step of a model of this depth."""
    jax.clear_caches()
    shape = replace(SHAPE, num_hidden_layers=layers)
    step, *arguments = abstract_step(PRESETS["tiny"], shape, None)
    start, busy = time.perf_counter(), time.process_time()
    lowered = step.lower(*arguments)
    traced = time.perf_counter()
    lowered.compile()
    return Seconds(traced - start, time.perf_counter() - start, time.process_time() - busy)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 28], help="the depths")
    parser.add_argument("--rounds", type=int, default=5, help="timed compilations of each")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    depths = arguments.layers
    times: dict[int, list[Seconds]] = {layers: [] for layers in depths}
    for turn in range(arguments.rounds + 1):
        for layers in depths if turn % 2 else depths[::-1]:
            seconds = seconds_to_compile(layers)
            # The first round pays for imports.
            if turn:
                times[layers].append(seconds)
    columns = {
        layers: {name: [getattr(x, name) for x in times[layers]] for name in Seconds._fields}
        for layers in depths
    }
    rows = [
        {
            "layers": layers,
            **{f"{name}_s": statistics.median(values) for name, values in columns[layers].items()},
        }
        for layers in depths
    ]
    least, most = min(depths), max(depths)
    ratios = {name: ratio(columns[most][name], columns[least][name]) for name in Seconds._fields}
    record = report(
        "benchmarks.compile_time",
        sys.argv[1:] if argv is None else argv,
        rows,
        arguments.json,
        ratios=ratios,
    )
    for name, value in ratios.items():
        print(
            f"{most} layers / {least} layers, {name}: {value['median']:.3f} "
            f"({value['low']:.3f} to {value['high']:.3f})"
        )
    return record


if __name__ == "__main__":
    main()
