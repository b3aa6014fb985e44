"""`pgpo plan --target`: a run's programs, compiled for accelerators that are not there."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from pgpo_jax.cli._terminal import align
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models import DecoderConfig, abstract_mesh, make_mesh
from pgpo_jax.models._sharding import check_mesh
from pgpo_jax.training import TrainConfig
from pgpo_jax.training.memory._estimate import GIGABYTE
from pgpo_jax.training.memory._search import changed_flags, changes_to_fit, smaller_steps
from pgpo_jax.training.target import ENVIRONMENT, Target, parse_target, target_devices
from pgpo_jax.training.target._report import (
    estimated_times,
    report_rows,
    report_run,
    versions,
)


def plan_for_target(
    text: str, config: TrainConfig, shape: DecoderConfig, source: str, argv: Sequence[str]
) -> None:
    """Compiles and prints, or does so in a process that is set up for it.

    Args:
        text: the target.
        config: the run.
        shape: of its model.
        source: where the settings come from, for the first line.
        argv: of `pgpo plan`.

    Raises:
        ValueError: an unknown target, or a mesh that does not fit it or the model.
        ImportError: the target's compiler is not installed.
    """
    target = parse_target(text)
    _check_size(target, config)
    mesh = config.mesh
    check_mesh(shape, abstract_mesh(mesh.data, mesh.fsdp, mesh.tensor))
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        _in_a_process(argv)
        return
    devices = target_devices(target)
    print(f"{config.model}, {source}, {text}: compiled by {versions()}, run on nothing", flush=True)
    reports = []
    for report in report_run(
        config, shape, make_mesh(mesh.data, mesh.fsdp, mesh.tensor, devices=devices)
    ):
        reports.append(report)
        print(f"  {report.name}: {report.peak / GIGABYTE:.2f} GB at most", flush=True)
    print(align(report_rows(reports)))
    _print_times(config, shape, reports, target)
    _print_fit(config, shape, max(report.peak for report in reports), target)


def _check_size(target: Target, config: TrainConfig) -> None:
    mesh = config.mesh
    if mesh.size != target.size:
        raise PGPOValueError(
            f"--target {target.name} has {target.size} devices, but the mesh has data x fsdp x "
            f"tensor = {mesh.data} x {mesh.fsdp} x {mesh.tensor} = {mesh.size}: set "
            f"--mesh.fsdp {max(target.size // (mesh.data * mesh.tensor), 1)}"
        )


def _print_times(config: TrainConfig, shape: DecoderConfig, reports: list, target: Target) -> None:
    work, times = estimated_times(config, shape, reports, target.chip)
    print(
        f"estimate, at the figures of {target.chip.source}, which no run reaches:\n"
        f"  step: {work.flops / 1e12:.4g} TFLOP a device take {times.compute:.1f} s, its "
        f"collectives {times.links:.1f} s: at least {times.step:.1f} s\n"
        f"  rollout: {work.tokens} tokens one after the other, each reading "
        f"{(work.weights + work.cache) / GIGABYTE:.2f} GB: at least {times.rollout:.1f} s"
    )


def _print_fit(config: TrainConfig, shape: DecoderConfig, peak: int, target: Target) -> None:
    memory = target.chip.memory
    if peak <= memory:
        print(f"fits: {(memory - peak) / GIGABYTE:.2f} of {memory / GIGABYTE:g} GB to spare")
        return
    print(f"does not fit: {peak / GIGABYTE:.2f} of {memory / GIGABYTE:g} GB")
    enough = changes_to_fit(config, shape, memory)
    if enough is None:
        print("what is not activations does not fit either: take more devices")
        return
    for smaller in smaller_steps(enough, shape):
        if smaller != config:
            print(f"try {changed_flags(config, smaller)}")
            return


def _in_a_process(argv: Sequence[str]) -> None:
    """Runs the same command where the compilers find their settings as they are loaded."""
    command = [sys.executable, "-m", "pgpo_jax", "plan", *argv]
    environment = os.environ | dict(ENVIRONMENT)
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        done = subprocess.run(command, env=environment, stderr=log, check=False)
        log.seek(0)
        lines = log.read().splitlines()
    if done.returncode:
        # The compilers say much; what went wrong is our line, or a traceback, at the end.
        ours = [i for i, line in enumerate(lines) if line.startswith(("pgpo: ", "Traceback"))]
        print("\n".join(lines[ours[-1] :] if ours else lines[-20:]), file=sys.stderr)
        sys.exit(done.returncode)
