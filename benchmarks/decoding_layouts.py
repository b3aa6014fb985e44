"""Weights gathered once a rollout, or a tensor-parallel mesh for decoding? By formula, in bytes.

    python -m benchmarks.decoding_layouts --json FILE

Both hold a rollout of the paper: 256 rows, prompts of 2048 and responses of 8192 tokens, bfloat16.

    gather      the training mesh: weights are gathered over fsdp once, W / t to each device, and
                each device decodes its share of the rows
    tensor      weights move once to a mesh that cuts them over as many devices as the key heads
                allow, and each group of these decodes its share of the rows

If t devices share each product, every layer sums two results over them for every token of prompt
and response (bfloat16). The embedding sums one (float32 in decoding). The choice of a token gathers
its logits (float32). From each device a sum sends 2 (t - 1) / t of its bytes (a ring), a gather (t
- 1) / t. A token's time is the least one: what a device reads (weights, and the cache half full)
and sends, at the maker's figures. Latency is left out; it counts against `tensor`.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any

from benchmarks._record import add_json_flag, report
from pgpo_jax.models import QWEN3_SHAPES, DecoderConfig
from pgpo_jax.training.target import CHIPS, Chip, kernel_entries, parse_target

ROWS, PROMPT, RESPONSE, WIDTH = 256, 2048, 8192, 2
# Target, and the devices that share each product in training: as docs/devices.md advises for 8B.
MACHINES = (("tpu:v5e:2x4", 1), ("tpu:v5e:8x8", 4), ("tpu:v5p:2x2x2", 1), ("cuda:h200:8", 1))


def weight_bytes(shape: DecoderConfig) -> int:
    """All weights that a decoding step reads, and the embedding, in bfloat16."""
    tables = 1 if shape.tie_word_embeddings else 2
    vocabulary = tables * shape.vocab_size * shape.hidden_size
    return WIDTH * (shape.num_hidden_layers * kernel_entries(shape) + vocabulary)


def layout(
    shape: DecoderConfig, chip: Chip, *, devices: int, tensor: int, gathered: bool
) -> dict[str, float]:
    """Of one device: gigabytes held and sent for a rollout, and milliseconds of a token.

    Args:
        shape: of the model.
        chip: figures of the device.
        devices: how many there are.
        tensor: of these share each product.
        gathered: weights come by a gather over the other devices; else they move once.
    """
    rows = ROWS * tensor / devices
    weights = weight_bytes(shape) / tensor
    entry = 2 * WIDTH * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim
    cache = rows * (PROMPT + RESPONSE) * entry / tensor
    half = rows * (PROMPT + RESPONSE / 2) * entry / tensor
    # What a device has already need not come; it has 1 / devices of the weights.
    moved = weights * (1 - tensor / devices) if gathered else weights * (1 - 1 / devices)
    ring = (tensor - 1) / tensor
    state = rows * shape.hidden_size
    layers = 2 * shape.num_hidden_layers * WIDTH * state
    prompts = 2 * ring * PROMPT * (layers + WIDTH * state)
    per_token = 2 * ring * (layers + 4 * state) + ring * 4 * rows * shape.vocab_size
    token = (weights + half) / chip.memory_bandwidth + per_token / chip.link_bandwidth
    return {
        "weights_gb": weights / 1e9,
        "cache_gb": cache / 1e9,
        "moved_gb": moved / 1e9,
        "sent_gb": (prompts + per_token * RESPONSE) / 1e9,
        "sent_mb_per_token": per_token / 1e6,
        "token_ms": 1e3 * token,
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_json_flag(parser)
    args = parser.parse_args(arguments)
    rows = []
    for name in ("Qwen3-0.6B", "Qwen3-8B"):
        shape = QWEN3_SHAPES[name]
        for target, trained in MACHINES:
            found = parse_target(target)
            most = math.gcd(shape.num_key_value_heads, found.size)
            for kind, tensor in (("gather", trained), ("tensor", most)):
                figures = layout(
                    shape,
                    CHIPS[target.split(":")[1]],
                    devices=found.size,
                    tensor=tensor,
                    gathered=kind == "gather",
                )
                rows.append(
                    {"model": name, "target": target, "layout": kind, "tensor": tensor, **figures}
                )
    given = sys.argv[1:] if arguments is None else arguments
    return report("benchmarks.decoding_layouts", given, rows, args.json)


if __name__ == "__main__":
    main()
