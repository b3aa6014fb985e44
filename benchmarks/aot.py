"""Compiles our programs for TPU and NVIDIA GPU, on a machine without either, and checks them.

    make aot                                      # an environment of its own, then all checks
    make aot ARGS="--target tpu:v5p:2x2x2"        # one target
    make aot ARGS="--program sampler"             # one program

Each check compiles a program for all devices of a target, cut over fsdp and by two over tensor. It
asserts properties that a change of ours can break. Nothing is run. Targets are named as for
`pgpo plan --target`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from benchmarks._record import add_json_flag, report
from benchmarks.step_overhead import kind_of_step
from pgpo_jax.distillation import HeadSharding, sdpo_head_loss
from pgpo_jax.models import Qwen3Config, make_mesh
from pgpo_jax.training import (
    PRESETS,
    LoRAConfig,
    MeshConfig,
    TrainConfig,
    abstract_step,
)
from pgpo_jax.training.target import (
    ENVIRONMENT,
    ProgramText,
    parse_target,
    products,
    sampler_programs,
    target_devices,
)

TARGETS = (
    "tpu:v5e:2x4",
    "tpu:v5e:8x8",
    "tpu:v5p:2x2x2",
    "tpu:v5p:4x4x4",
    "tpu:v6e:8x8",
    "cuda:h200:8",
)
TENSOR = 2
# Small enough to compile in a minute, large enough to tell a head from a kernel. A device's part of
# the keys has 8 heads of 128, and two queries share a key. For these a TPU chooses the layout of an
# argument by its length. (If each query has its own key, it copies caches anyway.)
SHAPE = Qwen3Config(
    vocab_size=16_384,
    hidden_size=512,
    intermediate_size=1024,
    num_hidden_layers=2,
    num_attention_heads=32,
    num_key_value_heads=16,
    head_dim=128,
    tie_word_embeddings=False,
)
CHUNK = 128
# The products that may take float32, by a part of their names: scores and values of the attentions
# "xla" and "chunked", and the mean teacher of LoRA. Softmax and entropies multiply nothing; the
# head takes bfloat16, and sums up in float32.
FLOAT32_PRODUCTS = ("BTNH,BSNH->BNTS", "BNTS,BSNH->BTNH", "low_rank_product")
_MOVED = ("all-gather", "all-to-all", "collective-permute")
_MOST_OVERHEAD_MB = 50.0


def mesh_of(target: str) -> Mesh:
    """All devices of a target, two of them along "tensor"."""
    found = parse_target(target)
    devices = target_devices(found)
    return make_mesh(fsdp=found.size // TENSOR, tensor=TENSOR, devices=devices)


def settings(mesh: Mesh, **changes: Any) -> TrainConfig:
    """A run of the small shape, in bfloat16 and in two micro-batches."""
    base, rows = PRESETS["tiny"], mesh.shape["fsdp"]
    config = replace(
        base,
        dtype="bfloat16",
        remat=True,
        mesh=MeshConfig(fsdp=rows, tensor=mesh.shape["tensor"]),
        rollout=replace(
            base.rollout, questions=rows, samples=2, row_buckets=1, max_prompt=64, max_response=128
        ),
        loss=replace(base.loss, support="topk_tail", chunk=CHUNK),
        optimizer=replace(base.optimizer, micro_batch=rows),
    )
    return replace(config, **changes)


def gathered_logits(mesh: Mesh, rows: int = 512, words: int = 151_936) -> dict[str, Any]:
    """The control: the checks see logits that are gathered."""
    where = NamedSharding(mesh, P("fsdp", "tensor"))
    logits = jax.ShapeDtypeStruct((rows, words), jnp.float32, sharding=where)
    gather = jax.jit(lambda z: 2 * z, out_shardings=NamedSharding(mesh, P()))
    facts = _facts(gather.lower(logits).compile())
    return facts | {"least_moved_mb": 4e-6 * rows * words / mesh.size}


def wide_products(text: ProgramText) -> list[str]:
    """Where a program multiplies more than 16 bits, other than where it may."""
    return [
        f"{' x '.join(one.dtypes)} at {one.source}"
        for one in products(text)
        if any(dtype not in ("bf16", "f16") for dtype in one.dtypes)
        and not any(name in one.source for name in FLOAT32_PRODUCTS)
    ]


def held_casts(text: ProgramText) -> int:
    """How many kernels a program casts for all layers at once, which holds a copy of them.

    Only casts of what comes into their computation in float32 count. XLA for TPU also puts pieces
    of 16 bits together in float32, inside the loop, and casts the whole back.
    """
    sizes = rf"\[{SHAPE.num_hidden_layers},\d+,\d+\]"
    wide, narrow = re.compile(rf"f32({sizes})"), re.compile(rf"bf16({sizes})")
    incoming = {
        (one.computation, found[1])
        for one in text.instructions
        if one.kind in ("parameter", "get-tuple-element") and (found := wide.match(one.shape))
    }
    return sum(
        one.kind == "convert"
        and (found := narrow.match(one.shape)) is not None
        and (one.computation, found[1]) in incoming
        for one in text.instructions
    )


def widened_product(mesh: Mesh) -> dict[str, Any]:
    """The control: the checks see a product whose input was widened."""
    whole = NamedSharding(mesh, P())
    x, kernel = (
        jax.ShapeDtypeStruct((512, 512), dtype, sharding=whole)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    product = jax.jit(lambda x, kernel: x @ kernel.astype(jnp.float32))
    compiled = product.lower(x, kernel).compile()
    seen = wide_products(ProgramText(compiled.as_text()))
    return _facts(compiled) | {"control_unseen": not seen}


def head_loss(mesh: Mesh, chunk: int = CHUNK, words: int = 151_936) -> dict[str, Any]:
    """Loss and gradients with the default support, at a real vocabulary."""

    def array(dtype: Any, spec: P, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    rows, width = mesh.shape["fsdp"], 64
    hidden = array(jnp.bfloat16, P("fsdp"), rows, 128, width)
    head = array(jnp.bfloat16, P(None, "tensor"), width, words)
    numbers = array(jnp.int32, P("fsdp"), rows, 128)
    # 151,936 words divide over 64 devices, not over 256.
    sharding = HeadSharding(mesh, ("fsdp",), ("tensor", "fsdp"))

    def loss(student: jax.Array, head: jax.Array, teacher: jax.Array, tokens: jax.Array) -> Any:
        out = sdpo_head_loss(
            student, teacher, head, head, tokens, tokens, chunk_size=chunk, sharding=sharding
        )
        return out.loss

    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    facts = _facts(step.lower(hidden, head, hidden, numbers).compile())
    return facts | {"most_moved_mb": 4e-6 * (chunk * words // mesh.size - 1)}


def step(mesh: Mesh, **changes: Any) -> dict[str, Any]:
    """The train step: donated arrays are reused, and no head or gradient of one travels whole."""
    train_step, state, batch = abstract_step(settings(mesh, **changes), SHAPE, mesh)
    compiled = train_step.lower(state, batch).compile()
    aliased = re.search(r"input_output_alias=\{(.*?)\}, entry", compiled.as_text())
    table = 2e-6 * SHAPE.hidden_size * SHAPE.vocab_size / TENSOR
    return _facts(compiled) | {
        "most_moved_mb": 0.9 * table,
        "most_summed_mb": 0.9 * table,
        "donated": len(jax.tree.leaves(state)),
        "aliased": 0 if aliased is None else aliased[1].count("alias"),
        "wide_products": wide_products(ProgramText(compiled.as_text())),
        "held_casts": held_casts(ProgramText(compiled.as_text())),
    }


def multiplier(mesh: Mesh) -> dict[str, Any]:
    """What PGPO needs beside the step of the optimizer alone, without signal and statistics."""
    peaks = []
    for name in ("bare", "pgpo"):
        config, optimizer, wrapped = kind_of_step(name, settings(mesh))
        train_step, state, batch = abstract_step(config, SHAPE, mesh, optimizer=optimizer)
        train_step = wrapped(train_step)
        compiled = train_step.lower(state, batch).compile()
        peaks.append(compiled.memory_analysis().peak_memory_in_bytes / 1e6)
    return {"peak_mb": peaks[1], "overhead_mb": peaks[1] - peaks[0]}


def sampler(mesh: Mesh, lanes: int | None = None) -> dict[str, Any]:
    """The decoding loop: no weight is gathered for a token, and no cache is copied.

    Args:
        mesh: of the target.
        lanes: responses that a device decodes at a time, half of its own; None: all.
    """
    config = settings(mesh)
    # Caches that no fast memory holds: what is copied then is copied in the device's memory.
    limit = None if lanes is None else lanes * mesh.shape["fsdp"]
    samples = 8 if lanes is None else 2 * lanes
    long = replace(config.rollout, samples=samples, max_response=8192, max_num_seqs=limit)
    config = replace(config, rollout=long)
    *_, decode = sampler_programs(config, SHAPE, mesh)
    text = ProgramText(decode.compiled.as_text())
    gathered = [one.largest for one in text.collectives() if one.kind == "all-gather"]
    rows = lanes or config.rollout.rows // mesh.shape["fsdp"]
    slots = config.rollout.max_response - 1
    cache = rows * SHAPE.num_key_value_heads // TENSOR * SHAPE.head_dim * slots * 2
    # The choice of a token gathers its own logits, which are less than the largest kernel.
    kernel = SHAPE.hidden_size * SHAPE.num_attention_heads * SHAPE.head_dim * 2 // TENSOR
    return _facts(decode.compiled) | {
        "gathered_mb": max(gathered, default=0) / 1e6,
        "most_gathered_mb": 0.9e-6 * kernel,
        "cache_copies": text.copies(cache),
        "wide_products": wide_products(text),
    }


CHECKS: Mapping[str, Callable[[Mesh], dict[str, Any]]] = {
    "control": gathered_logits,
    "control, products": widened_product,
    "head loss": head_loss,
    "step": step,
    "step, LoRA": lambda mesh: step(mesh, lora=LoRAConfig(rank=8)),
    "step, GRPO": lambda mesh: step(mesh, objective="grpo"),
    "step, cudnn": lambda mesh: step(mesh, attention="cudnn"),
    "multiplier": multiplier,
    "sampler": sampler,
    "sampler, lanes": lambda mesh: sampler(mesh, lanes=8),
}


def _facts(compiled: Any) -> dict[str, Any]:
    memory = compiled.memory_analysis()
    sent = ProgramText(compiled.as_text()).collectives()

    def largest(*kinds: str) -> float:
        return max((one.largest for one in sent if one.kind in kinds), default=0) / 1e6

    return {
        "peak_mb": memory.peak_memory_in_bytes / 1e6,
        "temp_mb": memory.temp_size_in_bytes / 1e6,
        "moved_mb": largest(*_MOVED),
        "summed_mb": largest("all-reduce"),
    }


def faults(row: Mapping[str, Any]) -> list[str]:
    """What a compiled program does that it must not."""
    found = []
    for what, verb in (("moved", "moves"), ("summed", "sums"), ("gathered", "gathers")):
        most = row.get(f"most_{what}_mb")
        if most is not None and row[f"{what}_mb"] > most:
            found.append(f"{verb} {row[f'{what}_mb']:.3g} MB at once, allowed are {most:.3g}")
    # A compiler may gather by a sum with zeros. Both are bounded for our programs.
    if max(row.get("moved_mb", np.inf), row.get("summed_mb", 0)) < row.get("least_moved_mb", 0):
        found.append("the control's gathered logits are not seen")
    if row.get("control_unseen"):
        found.append("the control's float32 product is not seen")
    if wide := row.get("wide_products"):
        found.append(f"{len(wide)} products take float32, the first {wide[0]}")
    if row.get("held_casts", 0):
        found.append(f"holds casts of {row['held_casts']} kernels of all layers")
    if row.get("donated", 0) != row.get("aliased", 0):
        found.append(f"only {row['aliased']} of {row['donated']} donated arrays are reused")
    if row.get("cache_copies", 0):
        found.append(f"copies a whole cache {row['cache_copies']} times")
    if row.get("overhead_mb", 0.0) > _MOST_OVERHEAD_MB:
        found.append(f"the multiplier needs {row['overhead_mb']:.3g} MB, allowed are 50")
    if row.get("rematerialised", 0):
        found.append(f"XLA rematerialises {row['rematerialised']} arrays that it should cut")
    return found


@contextmanager
def rematerialised() -> Iterator[dict[str, int]]:
    """Counts what the compilers complain of on stderr, which is written from C++."""
    counted: dict[str, int] = {}
    with tempfile.TemporaryFile() as log:
        kept = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield counted
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            log.seek(0)
            counted["rematerialised"] = log.read().count(b"nvoluntary full rematerialization")


def has_cudnn() -> bool:
    """Whether cuDNN is installed, which the CUDA compiler asks for its attention."""
    try:
        return metadata.version("nvidia-cudnn-cu12") is not None
    except metadata.PackageNotFoundError:
        return False


def checks_of(target: str, only: str | None) -> Iterator[str]:
    """The checks of a target: cuDNN's attention is for NVIDIA GPUs only."""
    for name in CHECKS:
        if only not in (None, name):
            continue
        if name == "step, cudnn" and not (target.startswith("cuda:") and has_cudnn()):
            continue
        yield name


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", action="append", help=f"by default {', '.join(TARGETS)}")
    parser.add_argument("--program", choices=sorted(CHECKS), help="by default all")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    os.environ.update(ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")
    rows = []
    for target in arguments.target or TARGETS:
        mesh = mesh_of(target)
        for name in checks_of(target, arguments.program):
            start = time.perf_counter()
            with rematerialised() as counted:
                row = {"target": target, "program": name, **CHECKS[name](mesh)}
            row |= counted | {"seconds": time.perf_counter() - start}
            row = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
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
