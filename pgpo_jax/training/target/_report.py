"""Reports a target compiler's figures for each program of a run, with an estimate of time."""

from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from pgpo_jax.errors import PGPORuntimeError
from pgpo_jax.models import DecoderConfig
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.memory._estimate import GIGABYTE, sampling_plan
from pgpo_jax.training.target._chips import Chip
from pgpo_jax.training.target._hlo import KINDS, ProgramText
from pgpo_jax.training.target._programs import Program, compiled_programs
from pgpo_jax.training.target._work import Times, Work, least_times, run_flops


class ProgramReport(NamedTuple):
    """Figures of one program, per device.

    Attributes:
        name: "step", "prefill" or "decode".
        peak: largest number of bytes at a time, arguments included.
        arguments: bytes of the arguments.
        sent: bytes of the results of its collectives by kind, with loops multiplied out. For the
            decoding loop they are those of one token.

    Added in version 0.2.0.
    """

    name: str
    peak: int
    arguments: int
    sent: dict[str, int]


def report_program(program: Program, tokens: int) -> ProgramReport:
    """Reads one compiled program.

    Args:
        program: program to read.
        tokens: number of decoding steps of a rollout.

    Returns:
        The report.

    Raises:
        RuntimeError: the compiler has no figures of memory.
    """
    memory = program.compiled.memory_analysis()
    if memory is None:
        raise PGPORuntimeError(f"the compiler says nothing of the memory of {program.name}")
    sent: dict[str, int] = dict.fromkeys(KINDS, 0)
    for one in ProgramText(program.compiled.as_text()).collectives():
        total = one.bytes * one.times
        if program.name == "decode":
            # Counts include the known length of a loop. Instructions outside run once a rollout.
            total = one.bytes if one.in_loop else total // max(tokens, 1)
        sent[one.kind] += total
    return ProgramReport(
        program.name, memory.peak_memory_in_bytes, memory.argument_size_in_bytes, sent
    )


def report_run(config: TrainConfig, shape: DecoderConfig, mesh: Mesh) -> Iterator[ProgramReport]:
    """Compile and read the programs of a run, one after the other.

    Args:
        config: the run.
        shape: of its model.
        mesh: mesh of the target's devices.

    Yields:
        A report as soon as its program is compiled.

    Added in version 0.2.0.
    """
    for program in compiled_programs(config, shape, mesh):
        yield report_program(program, config.rollout.max_response - 1)


def work_of(config: TrainConfig, shape: DecoderConfig, reports: list[ProgramReport]) -> Work:
    """The FLOPs and the bytes sent of a run on one device.

    Args:
        config: the run.
        shape: of its model.
        reports: reports of all its programs.

    Returns:
        The work.
    """
    sent = {report.name: sum(report.sent.values()) for report in reports}
    rollout = config.rollout
    held = sampling_plan(shape, config.mesh, config.dtype, rollout).rollout
    questions = rollout.micro_batch or rollout.questions
    # All responses of a call have the largest length, and groups are decoded one after the other.
    rows = questions * rollout.samples
    turns = -(-rows // min(rollout.max_num_seqs or rows, rows))
    calls = rollout.questions // questions
    return Work(
        flops=run_flops(config, shape) / config.mesh.size,
        sent=sent["step"],
        weights=held["sampler's weights"],
        cache=held["key-value cache"] // 2,
        sent_per_token=sent["decode"],
        tokens=calls * turns * (rollout.max_response - 1),
    )


def report_rows(reports: list[ProgramReport]) -> list[list[str]]:
    """The reports as a table with a head."""
    kinds = [kind for kind in KINDS if any(report.sent[kind] for report in reports)]
    head = ["per device", "peak GB", "arguments GB", *(f"{kind} GB" for kind in kinds)]

    def figure(count: int) -> str:
        return f"{count / GIGABYTE:.3f}" if count < GIGABYTE else f"{count / GIGABYTE:.2f}"

    return [
        head,
        *(
            [
                report.name + (", a token" if report.name == "decode" else ""),
                figure(report.peak),
                figure(report.arguments),
                *(figure(report.sent[kind]) for kind in kinds),
            ]
            for report in reports
        ),
    ]


def estimated_times(
    config: TrainConfig, shape: DecoderConfig, reports: list[ProgramReport], chip: Chip
) -> tuple[Work, Times]:
    """The work of a run and its least time; see `least_times`.

    Added in version 0.2.0.
    """
    work = work_of(config, shape, reports)
    return work, least_times(work, chip)


def versions() -> str:
    """Versions of the compilers, for the reader of the figures."""
    found = [f"jax {jax.__version__}"]
    for name in ("libtpu", "jax-cuda12-plugin"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
