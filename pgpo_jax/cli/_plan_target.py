"""`pgpo plan --target`: compiles a run's programs for accelerators that are not present."""

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
from pgpo_jax.training.target import (
    ENVIRONMENT,
    CompilerRefusal,
    Target,
    parse_target,
    target_devices,
)
from pgpo_jax.training.target._report import (
    ProgramReport,
    estimated_times,
    report_rows,
    report_run,
    versions,
)


def plan_for_target(
    text: str, config: TrainConfig, shape: DecoderConfig, source: str, argv: Sequence[str]
) -> None:
    """Compile and print, if necessary in another process that is set up for it.

    Args:
        text: the target.
        config: the run.
        shape: shape of its model.
        source: source of the settings, for the first line.
        argv: flags of `pgpo plan`.

    Raises:
        ValueError: the target is unknown or lacks the attention, or the mesh does not fit the
            target or the model.
        ImportError: the target's compiler is not installed.
        RuntimeError: its compiler refuses a program for another reason than memory.
    """
    target = parse_target(text)
    if config.attention == "cudnn" and target.kind != "cuda":
        raise PGPOValueError(
            f"--attention cudnn is for NVIDIA GPUs, --target is {target.name}: set --attention "
            "chunked"
        )
    _check_size(target, config)
    mesh = config.mesh
    check_mesh(shape, abstract_mesh(mesh.data, mesh.fsdp, mesh.tensor))
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        _in_a_process(argv)
        return
    devices = target_devices(target)
    print(f"{config.model}, {source}, {text}: compiled by {versions()}, run on nothing", flush=True)
    reports: list[ProgramReport] = []
    made = make_mesh(mesh.data, mesh.fsdp, mesh.tensor, devices=devices)
    try:
        for report in report_run(config, shape, made):
            reports.append(report)
            print(f"  {report.name}: {report.peak / GIGABYTE:.2f} GB at most", flush=True)
    except CompilerRefusal as refusal:
        if not refusal.out_of_memory:
            raise
        print(f"does not fit: {refusal}")
        in_step = not reports
        _print_changes(config, shape, target.chip.memory, smaller_step=in_step)
        return
    print(align(report_rows(reports)))
    _print_times(config, shape, reports, target)
    _print_fit(config, shape, reports, target)


def _check_size(target: Target, config: TrainConfig) -> None:
    mesh = config.mesh
    if mesh.size == target.size:
        return
    fsdp, rest = divmod(target.size, mesh.data * mesh.tensor)
    advice = f"set --mesh.fsdp {fsdp}"
    if rest:
        advice = f"--mesh.data times --mesh.tensor must divide {target.size}"
    raise PGPOValueError(
        f"--target {target.name} has {target.size} devices, but the mesh has data x fsdp x "
        f"tensor = {mesh.data} x {mesh.fsdp} x {mesh.tensor} = {mesh.size}: {advice}"
    )


def _print_times(
    config: TrainConfig, shape: DecoderConfig, reports: list[ProgramReport], target: Target
) -> None:
    work, times = estimated_times(config, shape, reports, target.chip)
    print(
        f"estimate, at the figures of {target.chip.source}, which no run reaches:\n"
        f"  step: {work.flops / 1e12:.4g} TFLOP a device take {times.compute:.1f} s, its "
        f"collectives {times.links:.1f} s: at least {times.step:.1f} s\n"
        f"  rollout: {work.tokens} tokens one after the other, each reading "
        f"{(work.weights + work.cache) / GIGABYTE:.2f} GB: at least {times.rollout:.1f} s"
    )


def _print_fit(
    config: TrainConfig, shape: DecoderConfig, reports: list[ProgramReport], target: Target
) -> None:
    memory, peaks = target.chip.memory, {report.name: report.peak for report in reports}
    peak = max(peaks.values())
    if peak <= memory:
        print(f"fits: {(memory - peak) / GIGABYTE:.2f} of {memory / GIGABYTE:g} GB to spare")
        return
    print(f"does not fit: {peak / GIGABYTE:.2f} of {memory / GIGABYTE:g} GB")
    _print_changes(config, shape, memory, smaller_step=peaks["step"] > memory)


def _print_changes(
    config: TrainConfig, shape: DecoderConfig, memory: int, *, smaller_step: bool
) -> None:
    """Flags to try next; with `smaller_step` also those that reduce the work space of the step."""
    enough = changes_to_fit(config, shape, memory)
    if enough is None:
        print("what is not activations does not fit either: take more devices")
        return
    for smaller in smaller_steps(enough, shape):
        if smaller != config and not (smaller_step and smaller == enough):
            print(f"try {changed_flags(config, smaller)}")
            return


def _in_a_process(argv: Sequence[str]) -> None:
    """Run the same command in a process in which the compilers find their settings when loaded."""
    command = [sys.executable, "-m", "pgpo_jax", "plan", *argv]
    environment = os.environ | dict(ENVIRONMENT)
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        done = subprocess.run(command, env=environment, stderr=log, check=False)
        log.seek(0)
        lines = log.read().splitlines()
    if done.returncode:
        # The compilers write much output. The error is our line, or a traceback, at the end.
        ours = [i for i, line in enumerate(lines) if line.startswith(("pgpo: ", "Traceback"))]
        print("\n".join(lines[ours[-1] :] if ours else lines[-20:]), file=sys.stderr)
        sys.exit(done.returncode)
