"""How close a training step and the sampler come to the limits of TPUs, on random weights.

    python -m benchmarks.tpu --shape Qwen3-1.7B --json tpu-1.7b.json
    python -m benchmarks.tpu --shape Qwen3-8B --lora-rank 16 --tensor 4 --json tpu-8b.json
    python -m benchmarks.tpu --dry-run

All chips of one host are used, along fsdp unless `--tensor` says otherwise. What is measured and
how it is estimated: `benchmarks/_device.py`.
"""

from __future__ import annotations

from typing import Any

from benchmarks._device import Family, main as run
from pgpo_jax.training.target import CHIPS

TPU = Family(
    module="benchmarks.tpu",
    name="TPU",
    platform="tpu",
    extra="tpu",
    # By the names that libtpu gives them.
    chips={"TPU v5 lite": CHIPS["v5e"], "TPU v6 lite": CHIPS["v6e"], "TPU v5": CHIPS["v5p"]},
    attention="chunked",
    fsdp=0,
)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """See the docstring of this module."""
    return run(TPU, arguments)


if __name__ == "__main__":
    main()
