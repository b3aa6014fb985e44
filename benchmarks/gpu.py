"""How close a training step and the sampler come to the limits of NVIDIA GPUs, on random weights.

    python -m benchmarks.gpu --shape Qwen3-1.7B --json gpu-1.7b.json
    python -m benchmarks.gpu --shape Qwen3-8B --lora-rank 16 --micro-batch 2 --json gpu-8b.json
    python -m benchmarks.gpu --shape Qwen3-8B --fsdp 8 --micro-batch 8 --json gpu-8b-8.json
    python -m benchmarks.gpu --dry-run

One GPU is used unless `--fsdp` or `--tensor` say otherwise. What is measured and how it is
estimated: `benchmarks/_device.py`.
"""

from __future__ import annotations

from typing import Any

from benchmarks._device import Family, main as run
from pgpo_jax.training.target import CHIPS, Chip

_GIGABYTE = 10**9


def _chip(memory: int, flops: float, bandwidth: float, link: float) -> Chip:
    """Gigabytes, TFLOP/s in dense bfloat16, and GB/s of memory and of NVLink or PCIe, one way."""
    figures = (memory * _GIGABYTE, flops * 1e12, bandwidth * 1e9, link * 1e9)
    return Chip(*figures, "NVIDIA's data sheets")


GPU = Family(
    module="benchmarks.gpu",
    name="NVIDIA GPU",
    platform="gpu",
    extra="cuda",
    chips={
        "NVIDIA H200": CHIPS["h200"],
        "NVIDIA H100 NVL": _chip(94, 835.5, 3900, 300),
        "NVIDIA H100 PCIe": _chip(80, 756, 2000, 64),
        "NVIDIA H100": _chip(80, 989.4, 3350, 450),
        "NVIDIA A100-SXM4-80GB": _chip(80, 312, 2039, 300),
        "NVIDIA A100 80GB PCIe": _chip(80, 312, 1935, 32),
        "NVIDIA A100": _chip(40, 312, 1555, 300),
        "NVIDIA L40S": _chip(48, 362, 864, 32),
    },
    attention="cudnn",
    fsdp=1,
)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """See the docstring of this module."""
    return run(GPU, arguments)


if __name__ == "__main__":
    main()
