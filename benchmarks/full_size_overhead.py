"""The cost of PGPO in a step of the paper's size, as the compiler counts it; nothing is allocated.

    python -m benchmarks.full_size_overhead [--json FILE] [--model Qwen3-8B]

The step of `paper-qwen3-8b` (256 sequences, all at full length) is compiled on abstract arguments.
The three steps are those of `benchmarks.step_overhead`. `bare` is SDPO without multiplier, signal,
metrics and numbers per token. `sdpo` is ours with alpha = 0. `pgpo` is ours. Each is compiled
twice.

For the operations the head takes all tokens in one chunk. The reason is that the compiler counts
the body of a loop once, for any number of iterations. So all work that PGPO adds is counted in
full, but only one of the equal layers. The ratio of the whole step is therefore nearer to 1 than
the printed one. For the memory it is the step of a real run, in micro-batches of one sequence with
attention in chunks.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from typing import Any

import jax

from benchmarks._record import add_json_flag, report
from benchmarks.step_overhead import KINDS, kind_of_step
from pgpo_jax.models import QWEN3_SHAPES, Qwen3Config, abstract_params
from pgpo_jax.training import PRESETS, abstract_step


def compiled(kind: str, shape: Qwen3Config, *, one_chunk: bool) -> Any:
    """The compiled step of one kind: all rows in one chunk of the head, or as it would be run."""
    base = PRESETS["paper-qwen3-8b"]
    config, optimizer, wrapped = kind_of_step(kind, base)
    if one_chunk:
        tokens = base.rollout.rows * base.rollout.max_response
        config = replace(config, loss=replace(config.loss, chunk=tokens))
    else:
        parts = replace(config.optimizer, micro_batch=1)
        config = replace(config, optimizer=parts, attention="chunked")
    step, *arguments = abstract_step(config, shape, None, optimizer=optimizer)
    return wrapped(step).lower(*arguments).compile()


def figures(kind: str, shape: Qwen3Config) -> dict[str, Any]:
    """The compiler's counts of one kind of step."""
    operations = compiled(kind, shape, one_chunk=True).cost_analysis()
    memory = compiled(kind, shape, one_chunk=False).memory_analysis()
    return {
        "step": kind,
        "tflop": operations["flops"] / 1e12,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "temp_bytes": memory.temp_size_in_bytes,
    }


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=list(QWEN3_SHAPES), default="Qwen3-8B")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    shape = QWEN3_SHAPES[arguments.model]
    rows = [figures(kind, shape) for kind in KINDS]
    bare, sdpo, pgpo = rows
    kernels = [leaf for leaf in jax.tree.leaves(abstract_params(shape)) if leaf.ndim > 1]
    matrices = [math.prod(leaf.shape) * 4 for leaf in kernels if min(leaf.shape[-2:]) > 256]
    comparison = {
        f"pgpo/{other['step']}": {
            "flops": pgpo["tflop"] / other["tflop"],
            "more_argument_bytes": pgpo["argument_bytes"] - other["argument_bytes"],
            "more_output_bytes": pgpo["output_bytes"] - other["output_bytes"],
            "more_temp_bytes": pgpo["temp_bytes"] - other["temp_bytes"],
        }
        for other in (sdpo, bare)
    }
    record = report(
        "benchmarks.full_size_overhead",
        sys.argv[1:] if argv is None else argv,
        rows,
        arguments.json,
        ratios=comparison,
        smallest_kernel_bytes=min(matrices),
    )
    for name, values in comparison.items():
        print(f"{name}: " + ", ".join(f"{what} {value:.9g}" for what, value in values.items()))
    print(f"smallest kernel of the model, all layers: {min(matrices)} bytes")
    return record


if __name__ == "__main__":
    main()
