"""The fused head loss against the plain one: compiled memory, and time where both fit.

    python -m benchmarks.head_loss [--json FILE] [--chunk-size N]

Memory is the compiler's own analysis of loss + gradient on abstract inputs (nothing that large is
allocated); time is the median of interleaved calls in one process.
"""

import argparse
import inspect
import json
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from pgpo_jax import distillation, information


def plain(student_hidden, teacher_hidden, student_head, teacher_head, tokens, mask):
    """Loss and signal with all logits in memory."""
    student = student_hidden @ student_head
    teacher = jax.lax.stop_gradient(teacher_hidden @ teacher_head)
    per_token = distillation.divergence(student, teacher, support="topk_tail", k=100)
    loss = distillation.aggregate(per_token, mask)
    return loss, jax.lax.stop_gradient(information.entropy_gain(student, teacher, mask))


def fused(chunk_size):
    def loss(*args):
        out = distillation.sdpo_head_loss(*args, support="topk_tail", k=100, chunk_size=chunk_size)
        return out.loss, out.information

    return loss


def shapes(batch, length, width, vocabulary, dtype):
    hidden = jax.ShapeDtypeStruct((batch, length, width), dtype)
    head = jax.ShapeDtypeStruct((width, vocabulary), dtype)
    tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32)
    return hidden, hidden, head, head, tokens, tokens


def gradient(loss):
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 2), has_aux=True))


def temp_bytes(loss, inputs):
    analysis = gradient(loss).lower(*inputs).compile().memory_analysis()
    assert analysis is not None, "this backend does not say what it will need"
    return analysis.temp_size_in_bytes


def arrays(inputs, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(inputs))
    made = [
        jax.random.normal(key, x.shape, x.dtype) / (x.shape[0] ** 0.5 if len(x.shape) == 2 else 1)
        for key, x in zip(keys[:4], inputs[:4], strict=True)
    ]
    tokens = jax.random.randint(keys[4], inputs[4].shape, 0, inputs[2].shape[1])
    return *made, tokens, jnp.ones(inputs[5].shape, jnp.int32)


def interleaved_seconds(functions, inputs, repeats):
    """Median seconds of each function, called in turn so that a busy machine is fair to all."""
    times = {name: [] for name in functions}
    for f in functions.values():
        jax.block_until_ready(f(*inputs))
    for _ in range(repeats):
        for name, f in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(f(*inputs))
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description="Head loss: memory and time.")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--chunk-size", type=int, default=None, help="default: the function's own")
    parser.add_argument("--tokens", type=int, default=4096, help="B*T of the memory figures")
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--timed-tokens", type=int, default=1024)
    parser.add_argument("--timed-vocabulary", type=int, default=16_384)
    parser.add_argument("--timed-width", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    default = inspect.signature(distillation.sdpo_head_loss).parameters["chunk_size"].default
    chunk_size = args.chunk_size or default

    batch = 8
    large = shapes(batch, args.tokens // batch, args.width, args.vocabulary, jnp.float32)
    memory = {"plain": temp_bytes(plain, large), "fused": temp_bytes(fused(chunk_size), large)}

    small = shapes(
        batch, args.timed_tokens // batch, args.timed_width, args.timed_vocabulary, jnp.float32
    )
    # The same number of chunks as in the large case would be, at the least four.
    timed_chunk = min(chunk_size, args.timed_tokens // 4)
    functions = {"plain": gradient(plain), "fused": gradient(fused(timed_chunk))}
    seconds = interleaved_seconds(functions, arrays(small), args.repeats)

    result = {
        "device": jax.devices()[0].device_kind,
        "machine": platform.platform(),
        "jax": jax.__version__,
        "chunk_size": chunk_size,
        "timed_chunk_size": timed_chunk,
        "memory_shape": {
            "tokens": args.tokens,
            "vocabulary": args.vocabulary,
            "width": args.width,
        },
        "timed_shape": {
            "tokens": args.timed_tokens,
            "vocabulary": args.timed_vocabulary,
            "width": args.timed_width,
        },
        "temp_bytes": memory,
        "temp_ratio": memory["fused"] / memory["plain"],
        "seconds": seconds,
        "time_ratio": seconds["fused"] / seconds["plain"],
    }
    print(f"{'path':8} {'temp GiB':>10} {'seconds':>10}")
    for name in ("plain", "fused"):
        print(f"{name:8} {memory[name] / 2**30:10.2f} {seconds[name]:10.3f}")
    print(f"{'ratio':8} {result['temp_ratio']:10.3f} {result['time_ratio']:10.3f}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
