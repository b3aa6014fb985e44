"""The training step on one device, on eight, and on eight of two processes: numbers, bytes, talk.

    python -m benchmarks.scaling --json scaling.json

Every layout runs in processes of its own, on virtual CPU devices, on the same weights and batches.
Collectives are those of the compiled program; one inside the scanned layers is counted once. Times
of virtual devices say nothing of real ones and are not taken.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from benchmarks._batch import random_batch
from benchmarks._config_step import first_state, jitted_step
from benchmarks._record import add_json_flag, report
from pgpo_jax.models import Qwen3, Qwen3Config, load_pretrained, save_pretrained
from pgpo_jax.training import (
    PRESETS,
    DistributedConfig,
    MeshConfig,
    TrainConfig,
    connect,
    is_first,
    make_mesh,
    process_local_rows,
    shard_rows,
)

SHAPE = Qwen3Config(
    vocab_size=512,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    rope_theta=1e4,
    tie_word_embeddings=False,
)
ROWS = 16
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
REMATERIALISED = "Involuntary full rematerialization"


class Layout(NamedTuple):
    """Processes, and the mesh over all their devices."""

    processes: int
    data: int
    fsdp: int
    tensor: int

    @property
    def name(self) -> str:
        """How a table calls it."""
        return f"{self.processes} x {self.data}/{self.fsdp}/{self.tensor}"

    @property
    def devices(self) -> int:
        """Devices in all."""
        return self.data * self.fsdp * self.tensor


LAYOUTS = (
    Layout(1, 1, 1, 1),
    Layout(1, 8, 1, 1),
    Layout(1, 1, 8, 1),
    Layout(1, 1, 4, 2),
    Layout(1, 2, 2, 2),
    Layout(2, 1, 4, 2),
)


def collectives(program: str) -> dict[str, int]:
    """How many instructions of each kind of collective a compiled program has."""
    found = Counter(re.findall(rf" ({'|'.join(COLLECTIVES)})(?:-start)?\(", program))
    return {kind: found[kind] for kind in COLLECTIVES if found[kind]}


def work(layout: Layout, folder: Path, steps: int) -> dict[str, Any]:
    """What one process does: loads, steps, and counts what its first device holds."""
    connect(DistributedConfig.from_environment())
    base: TrainConfig = PRESETS["tiny"]
    mesh_config = MeshConfig(*layout[1:])
    config = replace(base, remat=True, mesh=mesh_config, steps=steps)
    mesh = make_mesh(mesh_config)
    model = load_pretrained(folder, mesh=mesh, remat=True)
    graphdef, params = nnx.split(model, nnx.Param)
    state = first_state(params, config, mesh=mesh)
    placed = None if mesh is None else jax.tree.map(lambda leaf: leaf.sharding, state)
    step = jitted_step(graphdef, config, layout=placed)

    def batch(seed: int) -> Any:
        whole = random_batch(
            SHAPE.vocab_size, rows=ROWS, prompt=16, teacher_prompt=24, response=16, seed=seed
        )
        own = process_local_rows(ROWS, mesh)
        return shard_rows(jax.tree.map(lambda x: np.asarray(x)[own], whole), mesh)

    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    compiled = step.lower(state, batch(0)).compile()
    numbers = []
    for number in range(steps):
        state, metrics, _ = compiled(state, batch(number))
        numbers.append([float(metrics[name]) for name in ("loss", "pgpo/information", "pgpo/rho")])
    return {
        "state_mb": held / 1e6,
        "temp_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
        "collectives": collectives(compiled.as_text()),
        "numbers": numbers,
    }


def measure(layout: Layout, folder: Path, steps: int) -> dict[str, Any]:
    """Runs a layout in processes of its own.

    Raises:
        RuntimeError: with its log, if a process failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(layout.devices // layout.processes),
        # A program from disk would not be partitioned, and so could not complain.
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    if layout.processes > 1:
        environment |= {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(layout.processes),
        }
    out = folder / "result.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.scaling", "--steps", str(steps)]
    command += ["--worker", str(folder), *map(str, layout)]
    workers = [
        subprocess.Popen(
            command,
            env=environment | ({"JAX_PROCESS_ID": str(i)} if layout.processes > 1 else {}),
            # Gloo talks there.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(layout.processes)
    ]
    logs = [worker.communicate()[1] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise RuntimeError(f"layout {layout.name} failed:\n" + "\n".join(logs))
    return json.loads(out.read_text()) | {
        "rematerialised": sum(log.count(REMATERIALISED) for log in logs)
    }


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="training steps of each layout")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    if arguments.worker:
        folder, *sizes = arguments.worker
        found = work(Layout(*map(int, sizes)), Path(folder), arguments.steps)
        if is_first():
            (Path(folder) / "result.json").write_text(json.dumps(found))
        return found
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_pretrained(Qwen3(SHAPE, rngs=nnx.Rngs(0)), folder)
        results = {layout: measure(layout, folder, arguments.steps) for layout in LAYOUTS}
    alone = np.array(results[LAYOUTS[0]]["numbers"])
    rows = [
        {"processes x data/fsdp/tensor": layout.name}
        | {name: found[name] for name in ("state_mb", "temp_mb")}
        | {kind: found["collectives"].get(kind, 0) for kind in COLLECTIVES}
        | {
            name: float(np.abs(np.array(found["numbers"]) - alone)[:, column].max())
            for column, name in enumerate(("loss differs", "I differs", "rho differs"))
        }
        | {"rematerialised": found["rematerialised"]}
        for layout, found in results.items()
    ]
    numbers = {layout.name: found["numbers"] for layout, found in results.items()}
    return report(
        "benchmarks.scaling",
        sys.argv[1:] if argv is None else list(argv),
        rows,
        arguments.json,
        numbers=numbers,
    )


if __name__ == "__main__":
    main()
