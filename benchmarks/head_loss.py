"""The fused head loss against the plain one: compiled memory, and time where both fit.

    python -m benchmarks.head_loss [--json FILE] [--chunk-size N]

Memory is the compiler's own analysis of loss + gradient on abstract inputs (nothing that large is
allocated); time is the median of interleaved calls in one process.
"""

import argparse
import inspect
import statistics
import sys
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks._record import add_json_flag, in_turns, ratio, report
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


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_json_flag(parser)
    parser.add_argument("--chunk-size", type=int, default=None, help="default: the function's own")
    parser.add_argument("--tokens", type=int, default=4096, help="B*T of the memory figures")
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--timed-tokens", type=int, default=1024)
    parser.add_argument("--timed-vocabulary", type=int, default=16_384)
    parser.add_argument("--timed-width", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args(argv)
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
    inputs = arrays(small)
    seconds = in_turns(
        {name: lambda f=f: f(*inputs) for name, f in functions.items()}, args.repeats
    )
    rows = [
        {
            "path": name,
            "temp_gib": memory[name] / 2**30,
            "seconds": statistics.median(seconds[name]),
        }
        for name in ("plain", "fused")
    ]
    record = report(
        "benchmarks.head_loss",
        sys.argv[1:] if argv is None else argv,
        rows,
        args.json,
        settings={"chunk_size": chunk_size, "timed_chunk_size": timed_chunk}
        | {name: value for name, value in vars(args).items() if isinstance(value, int)},
        temp_ratio=memory["fused"] / memory["plain"],
        time_ratio=ratio(seconds["fused"], seconds["plain"]),
    )
    times = record["time_ratio"]
    print(
        f"fused/plain: temp {record['temp_ratio']:.4f}, time {times['median']:.3f} "
        f"({times['low']:.3f} to {times['high']:.3f})"
    )
    return record


if __name__ == "__main__":
    main()
