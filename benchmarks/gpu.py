"""How close a training step and the sampler come to the limits of one GPU, on random weights.

    python -m benchmarks.gpu --shape Qwen3-1.7B --json gpu-1.7b.json
    python -m benchmarks.gpu --shape Qwen3-8B --lora-rank 16 --micro-batch 2 --json gpu-8b.json

Both steps, PGPO's and SDPO's (alpha = 0), run on one state in turns. MFU is the FLOPs that the
mathematics asks for, over the seconds of the step, over the device's peak in dense bfloat16.
Counted are products only, 2 m k n for [m, k] by [k, n], at every position of the arrays:

    layers      2 P a token, P = D (2 N + 2 K) H + 3 D F the entries of a layer's kernels
    attention   4 N H a layer and pair of query and key that it may see: T (T + 1) / 2 a row
    head        2 D V a response token
    student     three times its forward pass: the gradients by activations and by weights cost one
                each; LoRA needs no gradient by the frozen kernels, but has its factors' products
    teacher     one forward pass, behind its own prompt

Nothing is counted for what is computed again in the backward pass: MFU is not hardware use.

Decoding is compared with the time to read what a step must read once: all kernels, the head, the
prompts' keys and values, and those of the tokens so far (the mean over the steps).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks._batch import random_batch
from benchmarks._config_step import first_state, jitted_step, without_multiplier
from benchmarks._record import add_json_flag, in_turns, ratio, report
from pgpo_jax.models import QWEN3_SHAPES, Qwen3, Qwen3Config, sample
from pgpo_jax.training import (
    LoRAConfig,
    OptimizerConfig,
    RolloutConfig,
    TeacherConfig,
    TrainConfig,
)
from pgpo_jax.training.target import kernel_entries, step_flops

# Dense bfloat16 FLOP/s and bytes/s, by the beginning of the device's name; NVIDIA's data sheets.
PEAKS = {
    "NVIDIA H200": (989.4e12, 4.8e12),
    "NVIDIA H100 NVL": (835.5e12, 3.9e12),
    "NVIDIA H100 PCIe": (756e12, 2.0e12),
    "NVIDIA H100": (989.4e12, 3.35e12),
    "NVIDIA A100-SXM4-80GB": (312e12, 2.039e12),
    "NVIDIA A100 80GB PCIe": (312e12, 1.935e12),
    "NVIDIA A100": (312e12, 1.555e12),
    "NVIDIA L40S": (362e12, 0.864e12),
}


SHAPES = QWEN3_SHAPES | {
    "smoke": Qwen3Config(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=True,
    ),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="Qwen3-1.7B")
    parser.add_argument("--rows", type=int, default=16, help="sequences of a training step")
    parser.add_argument("--prompt", type=int, default=512, help="tokens")
    parser.add_argument("--teacher-prompt", type=int, default=1024, help="tokens")
    parser.add_argument("--response", type=int, default=1024, help="tokens")
    parser.add_argument("--micro-batch", type=int, help="rows at a time, where memory is short")
    parser.add_argument("--lora-rank", type=int, default=0, help="0 trains all weights")
    parser.add_argument("--attention", choices=("xla", "cudnn"), help="default: cudnn on a GPU")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64], help="rows decoded")
    parser.add_argument("--new", type=int, default=256, help="tokens decoded")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peak-flops", type=float, help="FLOP/s in bfloat16; known for some GPUs")
    parser.add_argument("--bandwidth", type=float, help="bytes/s; known for some GPUs")
    add_json_flag(parser)
    return parser.parse_args(arguments)


def peaks(args: argparse.Namespace) -> tuple[float, float]:
    """FLOP/s and bytes/s of the device.

    Raises:
        ValueError: a device that is not in the table, without the flags.
    """
    kind = jax.devices()[0].device_kind
    known = next((peak for name, peak in PEAKS.items() if kind.startswith(name)), (None, None))
    flops, bandwidth = args.peak_flops or known[0], args.bandwidth or known[1]
    if not flops or not bandwidth:
        raise ValueError(
            f"The peaks of a device must be known: pass --peak-flops and --bandwidth for {kind!r}."
        )
    return flops, bandwidth


def decode_bytes(shape: Qwen3Config, *, rows: int, prompt: int, generated: float) -> float:
    """Bytes that one decoding step in bfloat16 reads at the least.

    Args:
        shape: the model.
        rows: sequences, each with its own prompt.
        prompt: tokens of each prompt.
        generated: tokens of each row so far.

    Returns:
        Bytes.
    """
    weights = shape.num_hidden_layers * kernel_entries(shape)
    weights += shape.hidden_size * shape.vocab_size
    entry = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim
    return 2.0 * (weights + rows * (prompt + generated) * entry)


def configuration(args: argparse.Namespace) -> TrainConfig:
    """The paper's loss, teacher and signal on a batch of this size."""
    default = "cudnn" if jax.default_backend() == "gpu" else "xla"
    return TrainConfig(
        dtype="bfloat16",
        attention=args.attention or default,
        rollout=RolloutConfig(
            questions=args.rows,
            samples=1,
            max_prompt=args.prompt,
            max_response=args.response,
            row_buckets=1,
        ),
        # The batch is random, and so are its teacher prompts: no row needs a peer.
        teacher=TeacherConfig(exclude_self=False),
        # Without a warm-up: its first update is zero.
        optimizer=OptimizerConfig(warmup_steps=0, micro_batch=args.micro_batch),
        lora=LoRAConfig(rank=args.lora_rank),
    )


def training(args: argparse.Namespace, model: Qwen3, peak: float) -> tuple[list[dict], dict]:
    """Rows of the table for both steps, and the ratio of their times."""
    config = configuration(args)
    lengths = {
        "rows": args.rows,
        "prompt": args.prompt,
        "teacher_prompt": args.teacher_prompt,
        "response": args.response,
    }
    batch = random_batch(model.config.vocab_size, **lengths)
    graphdef, params = nnx.split(model, nnx.Param)
    state = first_state(params, config)
    del params
    methods = {"pgpo": config, "sdpo": without_multiplier(config)}
    steps = {method: jitted_step(graphdef, of_method) for method, of_method in methods.items()}

    def turn(method: str) -> Callable[[], Any]:
        def run() -> Any:
            nonlocal state
            # The state has one form whatever alpha is, and there is memory for one only.
            state, metrics, _ = steps[method](state, batch)
            return metrics

        return run

    seconds = in_turns({method: turn(method) for method in steps}, args.rounds)
    flops = step_flops(model.config, **lengths, rank=args.lora_rank)
    read = args.rows * (args.prompt + args.teacher_prompt + 2 * args.response)
    rows = []
    for method, times in seconds.items():
        median = statistics.median(times)
        rows.append(
            {
                "step": method,
                "seconds": median,
                "tokens_per_second": read / median,
                "response_tokens_per_second": args.rows * args.response / median,
                "tflop": flops / 1e12,
                "mfu": flops / median / peak,
            }
        )
    return rows, ratio(seconds["pgpo"], seconds["sdpo"])


def decoding(args: argparse.Namespace, model: Qwen3, bandwidth: float) -> list[dict[str, Any]]:
    """Rows of the table for each batch size."""
    table = []
    for rows in args.batch:
        tokens = np.random.default_rng(0).integers(1, model.config.vocab_size, (rows, args.prompt))
        tokens = tokens.astype(np.int32)

        def run(new: int, tokens: np.ndarray = tokens) -> Callable[[], Any]:
            return lambda: sample(
                model,
                tokens,
                np.ones_like(tokens),
                jax.random.key(0),
                max_new_tokens=new,
                # Random weights come to an end once in a vocabulary.
                eos_id=0,
                pad_id=0,
            )

        seconds = in_turns({"all": run(args.new), "first": run(1)}, args.rounds)
        steps = args.new - 1
        spent = [a - b for a, b in zip(seconds["all"], seconds["first"], strict=True)]
        step = statistics.median(spent) / steps
        size = decode_bytes(
            model.config, rows=rows, prompt=args.prompt, generated=(args.new - 1) / 2
        )
        table.append(
            {
                "batch": rows,
                "prefill_seconds": statistics.median(seconds["first"]),
                "ms_per_step": 1e3 * step,
                "tokens_per_second": rows / step,
                "gb_per_step": size / 1e9,
                "of_roofline": size / bandwidth / step,
            }
        )
    return table


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse(arguments)
    flops, bandwidth = peaks(args)
    config = configuration(args)
    model = Qwen3(
        SHAPES[args.shape],
        rngs=nnx.Rngs(0),
        dtype=jnp.bfloat16,
        param_dtype=jnp.dtype(config.param_dtype),
        remat=True,
        attention=config.attention,
    )
    given = sys.argv[1:] if arguments is None else arguments
    # Decoding first: the training step consumes the weights.
    decoded = decoding(args, model, bandwidth)
    trained, over_sdpo = training(args, model, flops)
    record = report(
        "benchmarks.gpu",
        given,
        [*trained, *decoded],
        args.json,
        pgpo_over_sdpo=over_sdpo,
        peak_flops=flops,
        bandwidth=bandwidth,
        attention=config.attention,
    )
    print("pgpo/sdpo: time {median:.4f} ({low:.4f} to {high:.4f})".format(**over_sdpo))
    return record


if __name__ == "__main__":
    main()
