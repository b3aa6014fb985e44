"""The training step and the sampler of the benchmarks of accelerators, on random weights."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from benchmarks._batch import random_batch
from benchmarks._config_step import first_state, jitted_step, without_multiplier
from benchmarks._record import in_turns, ratio
from pgpo_jax.models import (
    QWEN3_SHAPES,
    Decoder,
    DecoderConfig,
    Qwen3Config,
    partition_spec,
    sample,
)
from pgpo_jax.training import (
    LoRAConfig,
    MeshConfig,
    OptimizerConfig,
    RolloutConfig,
    TeacherConfig,
    TrainConfig,
    shard_rows,
)
from pgpo_jax.training.target import Chip, kernel_entries, step_flops

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


def decode_bytes(
    shape: DecoderConfig, *, rows: int, prompt: int, generated: float, tensor: int = 1
) -> float:
    """Bytes that one decoding step in bfloat16 reads on a device at the least.

    Args:
        shape: the model.
        rows: sequences of the device, each with its own prompt.
        prompt: tokens of each prompt.
        generated: tokens of each row so far.
        tensor: devices that share each product.

    Returns:
        Bytes.
    """
    weights = shape.num_hidden_layers * kernel_entries(shape)
    weights += shape.hidden_size * shape.vocab_size
    entry = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim
    return 2.0 * (weights + rows * (prompt + generated) * entry) / tensor


def configuration(args: argparse.Namespace) -> TrainConfig:
    """The paper's loss, teacher and signal on a batch of this size."""
    rows = args.rows * args.fsdp
    return TrainConfig(
        dtype="bfloat16",
        attention=args.attention,
        remat=True,
        mesh=MeshConfig(fsdp=args.fsdp, tensor=args.tensor),
        rollout=RolloutConfig(
            questions=rows,
            samples=1,
            max_prompt=args.prompt,
            max_response=args.response,
            row_buckets=1,
        ),
        # The batch is random, and so are its teacher prompts: no row needs a peer.
        teacher=TeacherConfig(exclude_self=False, max_prompt=args.teacher_prompt),
        # Without a warm-up: its first update is zero.
        optimizer=OptimizerConfig(warmup_steps=0, micro_batch=args.micro_batch),
        lora=LoRAConfig(rank=args.lora_rank),
    )


def random_model(args: argparse.Namespace, mesh: Mesh) -> tuple[Any, Any]:
    """Structure and weights, each device's part made where it is kept."""
    config = configuration(args)

    def make() -> Decoder:
        return Decoder(
            SHAPES[args.shape],
            rngs=nnx.Rngs(0),
            dtype=jnp.bfloat16,
            param_dtype=jnp.dtype(config.param_dtype),
            remat=config.remat and config.remat_policy,
            attention=config.attention,
            mesh=mesh,
        )

    graphdef, params = nnx.split(nnx.eval_shape(make), nnx.Param)
    where = jax.tree.map(
        lambda weight: weight.replace(NamedSharding(mesh, partition_spec(weight.axes, mesh))),
        params,
        is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
    )
    made = jax.jit(lambda: nnx.split(make(), nnx.Param)[1], out_shardings=where)()
    return graphdef, made


def training(
    args: argparse.Namespace, mesh: Mesh, chip: Chip
) -> tuple[list[dict[str, Any]], dict[str, float], float | None]:
    """Rows of the table for both steps, the ratio of their times, and the peak in GB."""
    config, shape = configuration(args), SHAPES[args.shape]
    lengths = {
        "rows": args.rows * args.fsdp,
        "prompt": args.prompt,
        "teacher_prompt": args.teacher_prompt,
        "response": args.response,
    }
    batch = shard_rows(jax.device_get(random_batch(shape.vocab_size, **lengths)), mesh)
    graphdef, params = random_model(args, mesh)
    state = first_state(params, config, mesh=mesh)
    del params
    layout = jax.tree.map(lambda leaf: leaf.sharding, state)
    methods = {"pgpo": config, "sdpo": without_multiplier(config)}
    steps = {
        method: jitted_step(graphdef, of_method, layout=layout)
        for method, of_method in methods.items()
    }

    def turn(method: str) -> Callable[[], Any]:
        def run() -> Any:
            nonlocal state
            # The state has one form whatever alpha is, and there is memory for one only.
            state, metrics, _ = steps[method](state, batch)
            return metrics

        return run

    seconds = in_turns({method: turn(method) for method in steps}, args.rounds)
    flops = step_flops(shape, **lengths, rank=args.lora_rank)
    read = lengths["rows"] * (args.prompt + args.teacher_prompt + 2 * args.response)
    rows = []
    for method, times in seconds.items():
        median = statistics.median(times)
        rows.append(
            {
                "step": method,
                "seconds": median,
                "tokens_per_second": read / median,
                "response_tokens_per_second": lengths["rows"] * args.response / median,
                "tflop": flops / 1e12,
                "mfu": flops / median / (mesh.size * chip.flops),
            }
        )
    memory = jax.local_devices()[0].memory_stats() or {}
    peak = memory.get("peak_bytes_in_use")
    return rows, ratio(seconds["pgpo"], seconds["sdpo"]), None if peak is None else peak / 1e9


def decoding(args: argparse.Namespace, mesh: Mesh, chip: Chip) -> list[dict[str, Any]]:
    """Rows of the table for each batch size."""
    shape, model = SHAPES[args.shape], nnx.merge(*random_model(args, mesh))
    table = []
    for share in args.batch:
        rows = share * args.fsdp
        tokens = np.random.default_rng(0).integers(1, shape.vocab_size, (rows, args.prompt))
        tokens = shard_rows(tokens.astype(np.int32), mesh)

        def run(new: int, tokens: Any = tokens) -> Callable[[], Any]:
            return lambda: sample(
                model,
                tokens,
                jnp.ones_like(tokens),
                jax.random.key(0),
                max_new_tokens=new,
                # Random weights come to an end once in a vocabulary.
                eos_id=0,
                pad_id=0,
            )

        seconds = in_turns({"all": run(args.new), "first": run(1)}, args.rounds)
        spent = [a - b for a, b in zip(seconds["all"], seconds["first"], strict=True)]
        step = statistics.median(spent) / (args.new - 1)
        size = decode_bytes(
            shape,
            rows=share,
            prompt=args.prompt,
            generated=(args.new - 1) / 2,
            tensor=args.tensor,
        )
        table.append(
            {
                "batch": rows,
                "prefill_seconds": statistics.median(seconds["first"]),
                "ms_per_step": 1e3 * step,
                "tokens_per_second": rows / step,
                "gb_per_step": size / 1e9,
                "of_roofline": size / chip.memory_bandwidth / step,
            }
        )
    return table
