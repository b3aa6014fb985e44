"""What the compilers for TPU and NVIDIA GPU say of our programs, on a machine that has neither.

    make aot                                      # an environment of its own, then all checks
    make aot ARGS="--target tpu:v5e:2x4"          # one target

Each check compiles a program of eight devices, on a mesh of fsdp 4 x tensor 2, and asserts what a
change of ours can break. Nothing is run. Targets are `tpu:TOPOLOGY` and `cuda:h200:8`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from benchmarks._record import add_json_flag, report
from pgpo_jax.distillation import sdpo_head_loss
from pgpo_jax.models import Qwen3Config, make_mesh
from pgpo_jax.training import PRESETS, MeshConfig, abstract_step, model_folder

# Read as the compilers are loaded. The CUDA compiler would measure kernels on a device.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false --xla_gpu_autotune_level=0",
}
TARGETS = ("tpu:v5e:2x4", "cuda:h200:8")
FSDP, TENSOR = 4, 2
_MOVED = re.compile(r"= (.*?) (?:all-gather|all-to-all|collective-permute)(?:-start)?\(")
_SHAPE = re.compile(r"\w+\[([\d,]+)\]")


def devices_of(target: str) -> list[Any]:
    """Eight devices that can be compiled for, of `tpu:TOPOLOGY` or `cuda:h200:8`."""
    kind, _, name = target.partition(":")
    if kind == "tpu":
        found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    elif target == "cuda:h200:8":
        importlib.import_module("jax_plugins.xla_cuda12")  # registers the compiler

        config = Path(__file__).with_name("h200.txtpb").read_text()
        found = topologies.get_topology_desc(
            platform="cuda", topology_name="", topology="1x1x8", target_config=config
        )
    else:
        raise SystemExit(f"--target must be tpu:TOPOLOGY or cuda:h200:8, got {target!r}")
    return list(found.devices)[: FSDP * TENSOR]


def largest_moved(program: str) -> int:
    """Numbers in the largest array that is gathered or passed on between devices."""
    shapes = (shape for found in _MOVED.findall(program) for shape in _SHAPE.findall(found))
    return max((int(np.prod([int(n) for n in shape.split(",")])) for shape in shapes), default=0)


def gathered_logits(mesh: Mesh, rows: int = 512, words: int = 151_936) -> dict[str, Any]:
    """The control: the checks see logits that are gathered."""
    where = NamedSharding(mesh, P("fsdp", "tensor"))
    logits = jax.ShapeDtypeStruct((rows, words), jnp.float32, sharding=where)
    gather = jax.jit(lambda z: 2 * z, out_shardings=NamedSharding(mesh, P()))
    return _facts(gather.lower(logits).compile()) | {"least_moved": rows * words // mesh.size + 1}


def head_loss(mesh: Mesh, chunk: int = 512, words: int = 151_936) -> dict[str, Any]:
    """Loss and gradients with the default support, vocabulary over tensor, rows over fsdp."""

    def array(dtype: Any, spec: P, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    rows, columns = P("fsdp"), P(None, "tensor")
    hidden = array(jnp.bfloat16, rows, 8, 128, 64)
    head = array(jnp.bfloat16, columns, 64, words)
    numbers = array(jnp.int32, rows, 8, 128)

    def loss(student: jax.Array, head: jax.Array, teacher: jax.Array, tokens: jax.Array) -> Any:
        out = sdpo_head_loss(student, teacher, head, head, tokens, tokens, chunk_size=chunk)
        return out.loss

    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    compiled = step.lower(hidden, head, hidden, numbers).compile()
    return _facts(compiled) | {"most_moved": chunk * words // mesh.size - 1}


def tiny_step(mesh: Mesh) -> dict[str, Any]:
    """The train step of the shipped model with the default loss, in bfloat16."""
    base = PRESETS["tiny"]
    config = replace(
        base,
        dtype="bfloat16",
        remat=True,
        mesh=MeshConfig(fsdp=FSDP, tensor=TENSOR),
        loss=replace(base.loss, support="topk_tail"),
    )
    shape = Qwen3Config.from_folder(Path(model_folder("tiny")))
    step, state, batch = abstract_step(config, shape, mesh)
    compiled = step.lower(state, batch).compile()
    chunk = min(config.loss.chunk, config.rollout.rows * config.rollout.max_response)
    aliased = re.search(r"input_output_alias=\{(.*?)\}, entry", compiled.as_text())
    return _facts(compiled) | {
        "most_moved": chunk * shape.vocab_size // mesh.size - 1,
        "donated": len(jax.tree.leaves(state)),
        "aliased": 0 if aliased is None else aliased[1].count("alias"),
    }


CHECKS: Mapping[str, Callable[[Mesh], dict[str, Any]]] = {
    "control": gathered_logits,
    "head loss": head_loss,
    "tiny step": tiny_step,
}


def _facts(compiled: Any) -> dict[str, Any]:
    memory = compiled.memory_analysis()
    return {
        "peak_mb": round(memory.peak_memory_in_bytes / 1e6, 3),
        "temp_mb": round(memory.temp_size_in_bytes / 1e6, 3),
        "moved": largest_moved(compiled.as_text()),
    }


def faults(row: Mapping[str, Any]) -> list[str]:
    """What a compiled program does that it must not."""
    found = []
    if row["moved"] > row.get("most_moved", row["moved"]):
        found.append(f"moves {row['moved']} numbers at once, as many as a device's chunk of logits")
    if row["moved"] < row.get("least_moved", 0):
        found.append("the control's gathered logits are not seen")
    if row.get("donated", 0) != row.get("aliased", 0):
        found.append(f"only {row['aliased']} of {row['donated']} donated arrays are reused")
    return found


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", action="append", help=f"by default {' and '.join(TARGETS)}")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    os.environ.update(ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")
    rows = []
    for target in arguments.target or TARGETS:
        mesh = make_mesh(fsdp=FSDP, tensor=TENSOR, devices=devices_of(target))
        for name, check in CHECKS.items():
            start = time.perf_counter()
            row = {"target": target, "program": name, **check(mesh)}
            row["seconds"] = round(time.perf_counter() - start, 1)
            rows.append(row | {"faults": faults(row)})
            print(rows[-1], flush=True)
    command = sys.argv[1:] if argv is None else argv
    compilers = {name: metadata.version(name) for name in ("libtpu", "jax-cuda12-plugin")}
    record = report("benchmarks.aot", command, rows, arguments.json, compilers=compilers)
    wrong = [f"{row['target']}, {row['program']}: {x}" for row in rows for x in row["faults"]]
    if wrong:
        raise SystemExit("\n".join(wrong))
    return record


if __name__ == "__main__":
    main()
