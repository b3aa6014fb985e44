import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pgpo_jax._printable import printable_line
from pgpo_jax.cli._defaults import expanded, starting_point
from pgpo_jax.cli._plan_target import plan_for_target
from pgpo_jax.cli._terminal import align
from pgpo_jax.flags import parse
from pgpo_jax.models import DecoderConfig
from pgpo_jax.training import TrainConfig, make_mesh
from pgpo_jax.training.memory._estimate import GIGABYTE, MemoryPlan, memory_plan, parse_bytes
from pgpo_jax.training.memory._search import changed_flags, changes_to_fit, smaller_steps
from pgpo_jax.training.memory._shapes import model_shape

_MOST_DEVICES = 4096


@dataclass(frozen=True)
class PlanCommand:
    """Computes the bytes per device that a run needs, without allocating them, and whether it fits.

    The command takes the settings of `pgpo train`. `--model` may be a folder, a config.json, or the
    name of a published shape: Qwen3-0.6B, Qwen3-1.7B, Qwen3-8B, SmolLM2-135M, Llama-3.2-1B.
    Weights, moments, teacher and cache follow from shapes. The rest is the compiler's figure for
    the real step on abstract arrays, on as many virtual devices as the mesh has. With `--target`
    the figures are those of the compiler of a TPU or GPU. They then include the bytes that the
    programs send between devices.
    """

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    preset: str | None = None
    """As of `pgpo train`."""
    information_preset: str | None = None
    """As of `pgpo train`."""
    device_memory: str = "80GB"
    """Memory of one device, in GB or GiB. It is ignored with a target, whose memory is known."""
    target: str | None = None
    """Target for which step, prefill and decoding are compiled: tpu:v5p:2x2x2, tpu:v5e:8x8,
    tpu:v6e:2x4, cuda:h200:8. This takes minutes and needs the target's compiler, but no such
    device."""


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo plan`.

    Raises:
        ValueError: for a bad configuration, memory size or mesh.
        FileNotFoundError: if the model is neither there nor a known shape.
    """
    source, config = starting_point(argv, Path("runs/train"))
    command = parse(PlanCommand, "pgpo plan", expanded(argv), default=PlanCommand(config))
    config, memory = command.config, parse_bytes(command.device_memory)
    shape = model_shape(config.model)
    if config.teacher.model is not None:
        # Nothing is downloaded for a plan.
        model_shape(config.teacher.model)
    if command.target is not None:
        plan_for_target(command.target, config, shape, source, argv)
        return
    if not _has_devices(config.mesh.size):
        _on_virtual_devices(config.mesh.size, argv)
        return
    what = f"{config.model}, {source}, {config.mesh.size} x {memory / GIGABYTE:g} GB"
    print(printable_line(what))
    plan = _planned(config, shape)
    print(align(plan.rows()))
    if plan.peak <= memory:
        print(_spare(plan, memory))
        return
    print("does not fit")
    enough = changes_to_fit(config, shape, memory)
    if enough is None:
        print(_more_devices(config, shape, memory))
        return
    smaller = enough
    for smaller in smaller_steps(enough, shape):
        if smaller != config:
            plan = _planned(smaller, shape)
            if plan.peak <= memory:
                print(f"\nwith {changed_flags(config, smaller)}")
                print(align(plan.rows()))
                print(_spare(plan, memory))
                return
    print(
        f"no change of micro-batches, attention or mesh makes it fit: with "
        f"{changed_flags(config, smaller)} it still needs {plan.peak / GIGABYTE:.2f} GB"
    )


def _spare(plan: MemoryPlan, memory: int) -> str:
    return f"fits: {(memory - plan.peak) / GIGABYTE:.2f} GB to spare"


def _planned(config: TrainConfig, shape: DecoderConfig) -> MemoryPlan:
    return memory_plan(config, shape, mesh=make_mesh(config.mesh))


def _more_devices(config: TrainConfig, shape: DecoderConfig, memory: int) -> str:
    """The smallest power of two of devices whose shares fit, estimated without compiling."""
    mesh = config.mesh
    while mesh.size < _MOST_DEVICES:
        mesh = dataclasses.replace(mesh, fsdp=2 * mesh.fsdp)
        try:
            larger = dataclasses.replace(config, mesh=mesh)
            plan = memory_plan(larger, shape, compiled=False)
        except ValueError:
            break
        if plan.peak <= memory:
            return (
                f"what is not activations fits with --mesh.fsdp {mesh.fsdp}: "
                f"{plan.peak / GIGABYTE:.2f} GB"
            )
    return "no number of such devices along --mesh.fsdp is enough"


def _has_devices(count: int) -> bool:
    """Whether this process has so many CPU devices, found without starting a backend."""
    cpu = os.environ.get("JAX_PLATFORMS") == "cpu"
    return cpu and int(os.environ.get("JAX_NUM_CPU_DEVICES", "1")) >= count


def _on_virtual_devices(count: int, argv: Sequence[str]) -> None:
    """Run the same command in another process, because a backend cannot add devices later."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(count)}
    command = [sys.executable, "-m", "pgpo_jax", "plan", *argv]
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)
