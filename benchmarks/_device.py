"""Measures a run on accelerators and compares it with the estimate of `pgpo plan`.

One training step and the decoding of random weights, on a mesh of the devices at hand. The estimate
is that of `pgpo plan --target` by the compiler of these devices: the roofline at the maker's
figures, which no run reaches, and the step's peak.

PGPO's step and SDPO's (alpha = 0) run on one state in turns. MFU is the FLOPs that the mathematics
asks for, over the seconds of the step, over the devices' peak in dense bfloat16. Counted are
products only, 2 m k n for [m, k] by [k, n], at every position of the arrays:

    layers      2 P a token, P = D (2 N + 2 K) H + 3 D F the entries of a layer's kernels
    attention   4 N H a layer and pair of query and key that it may see: T (T + 1) / 2 a row
    head        2 D V a response token
    student     three times its forward pass: the gradients by activations and by weights cost one
                each; LoRA needs no gradient by the frozen kernels, but has its factors' products
    teacher     one forward pass, behind its own prompt

MFU counts nothing that is computed again in the backward pass; the estimate does.

Decoding is compared with the time to read once all data that a step needs: all kernels, the head,
the prompts' keys and values, and those of the tokens so far (the mean over the steps).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from benchmarks._device_work import SHAPES, configuration, decoding, training
from benchmarks._record import add_json_flag, report, table
from pgpo_jax.models import make_mesh
from pgpo_jax.training.target import Chip, estimated_times, report_run

# The flags of `--dry-run`: everything runs, and no figure means anything.
DRY_RUN = (
    *("--shape", "smoke", "--rows", "1", "--prompt", "4", "--teacher-prompt", "6"),
    *("--response", "4", "--batch", "1", "--new", "3", "--rounds", "1", "--fsdp", "2"),
    *("--peak-flops", "1e12", "--bandwidth", "1e12", "--attention", "xla"),
)


class Family(NamedTuple):
    """The devices that a benchmark is for.

    Attributes:
        module: of the benchmark.
        name: of the devices, for messages.
        platform: as JAX calls it.
        extra: of this package that brings JAX's support of them.
        chips: by the beginning of the device's own name, the longest first.
        attention: the fastest that they have.
        fsdp: how many of them are used; 0 for all.
    """

    module: str
    name: str
    platform: str
    extra: str
    chips: Mapping[str, Chip]
    attention: str
    fsdp: int


def parse(family: Family, arguments: Sequence[str]) -> argparse.Namespace:
    """The flags of a benchmark."""
    parser = argparse.ArgumentParser(prog=f"python -m {family.module}")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="Qwen3-1.7B")
    parser.add_argument("--fsdp", type=int, help="devices that share the weights and the rows")
    parser.add_argument("--tensor", type=int, default=1, help="devices that share each product")
    parser.add_argument("--rows", type=int, default=16, help="sequences of a step, for each fsdp")
    parser.add_argument("--prompt", type=int, default=512, help="tokens")
    parser.add_argument("--teacher-prompt", type=int, default=1024, help="tokens")
    parser.add_argument("--response", type=int, default=1024, help="tokens")
    parser.add_argument("--micro-batch", type=int, help="rows at a time, where memory is short")
    parser.add_argument("--lora-rank", type=int, default=0, help="0 trains all weights")
    parser.add_argument("--attention", choices=("xla", "chunked", "cudnn"))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64], help="as --rows")
    parser.add_argument("--new", type=int, default=256, help="tokens decoded")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peak-flops", type=float, help="FLOP/s in bfloat16 of one device")
    parser.add_argument("--bandwidth", type=float, help="bytes/s of one device's memory")
    parser.add_argument("--dry-run", action="store_true", help="a tiny model, on any device")
    add_json_flag(parser)
    args = parser.parse_args(arguments)
    if args.dry_run:
        args = parser.parse_args([*DRY_RUN, *(x for x in arguments if x != "--dry-run")])
    rows = args.tensor * (args.fsdp or family.fsdp or len(jax.devices()) // args.tensor)
    if args.tensor < 1 or not 1 <= rows <= len(jax.devices()):
        raise ValueError(f"The mesh has {rows} devices, but there are {len(jax.devices())}.")
    args.fsdp = rows // args.tensor
    args.attention = args.attention or (family.attention if _is(family) else "xla")
    return args


def _is(family: Family) -> bool:
    return jax.devices()[0].platform == family.platform


def chip_of(family: Family, args: argparse.Namespace) -> Chip:
    """The figures of the device.

    Raises:
        ValueError: another device, or one that is not in the table, without the flags.
    """
    kind = jax.devices()[0].device_kind
    known = next((chip for name, chip in family.chips.items() if kind.startswith(name)), None)
    if args.peak_flops and args.bandwidth:
        chip = known or next(iter(family.chips.values()))
        return chip._replace(flops=args.peak_flops, memory_bandwidth=args.bandwidth)
    if not _is(family):
        raise ValueError(
            f"{family.module} needs a device of the kind {family.name}, and JAX found {kind!r}: "
            f"pip install 'pgpo-jax[train,{family.extra}]' where there is one, or try it with "
            f"--dry-run. To measure anyway, pass --peak-flops and --bandwidth for {kind!r}."
        )
    if known is None:
        raise ValueError(
            f"The peaks of a device must be known: pass --peak-flops and --bandwidth for {kind!r}."
        )
    return known


def estimated(args: argparse.Namespace, mesh: Mesh, chip: Chip) -> dict[str, float]:
    """What `pgpo plan --target` says of the step: seconds at the least, and bytes."""
    config, shape = configuration(args), SHAPES[args.shape]
    reports = list(report_run(config, shape, mesh))
    _, times = estimated_times(config, shape, reports, chip)
    return {"step, s": times.step, "step's peak, GB": reports[0].peak / 1e9}


def main(family: Family, arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the benchmark of a family of devices.

    Args:
        family: the devices.
        arguments: of the command line, by default this process's.

    Returns:
        The record.

    Raises:
        ValueError: another device, or a mesh that there are no devices for.
    """
    given = sys.argv[1:] if arguments is None else arguments
    args = parse(family, given)
    chip = chip_of(family, args)
    mesh = make_mesh(1, args.fsdp, args.tensor, devices=jax.devices()[: args.fsdp * args.tensor])
    trained, over_sdpo, peak = training(args, mesh, chip)
    decoded = decoding(args, mesh, chip)
    measured = {"step, s": trained[0]["seconds"], "step's peak, GB": peak}
    compared = [
        {
            "quantity": name,
            "estimated": value,
            "measured": measured[name],
            "ratio": None if measured[name] is None else measured[name] / value,
        }
        for name, value in estimated(args, mesh, chip).items()
    ]
    compared += [
        {
            "quantity": f"decoding {row['batch']} rows, ms",
            "estimated": row["ms_per_step"] * row["of_roofline"],
            "measured": row["ms_per_step"],
            "ratio": 1 / row["of_roofline"],
        }
        for row in decoded
    ]
    record = report(
        family.module,
        given,
        [*trained, *decoded],
        args.json,
        measured_beside_estimated=compared,
        pgpo_over_sdpo=over_sdpo,
        mesh={"fsdp": args.fsdp, "tensor": args.tensor},
        peak_flops=chip.flops,
        bandwidth=chip.memory_bandwidth,
        attention=args.attention,
    )
    print(table(compared))
    print("pgpo/sdpo: time {median:.4f} ({low:.4f} to {high:.4f})".format(**over_sdpo))
    return record
