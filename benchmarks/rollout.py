"""Rollouts with few long responses: all responses of a call at once, or some lanes at a time.

    python -m benchmarks.rollout

It compares `sample` with `sample(max_num_seqs=L)`, in turns, in seconds and in row-steps. Row-steps
are rows of the batch times steps. They are the cost on a machine whose step costs the same for
every row. The tokens must be the same.

The lengths are those of a distribution, not of a language. With the weights of this model the first
token has the distribution of the lengths. Each later token is the previous one minus 1, down to 0,
which ends the response. The cost of a step does not depend on the weights. `lognormal` has a long
tail (log-standard deviation --sigma); `geometric` is that of an end with one chance at every step.
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

from benchmarks._record import add_json_flag, in_turns, ratio, report
from pgpo_jax.models import Decoder, DecoderConfig, Samples, counted_row_steps, sample

MODULE = "benchmarks.rollout"
# Logits by which the next token is certain, and by which a length is not drawn.
_CERTAIN, _NEVER = 80.0, -60.0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (
        ("layers", 4),
        ("width", 256),
        ("heads", 8),
        ("kv-heads", 4),
        ("mlp", 768),
        ("prompt", 64),
        ("prompts", 16),
        ("samples", 4),
        ("new", 512),
        ("median", 32),
        ("repeats", 5),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--sigma", type=float, default=1.2)
    parser.add_argument("--lanes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument(
        "--lengths", nargs="+", default=["lognormal"], choices=["lognormal", "geometric"]
    )
    add_json_flag(parser)
    return parser.parse_args(arguments)


def log_chances(args: argparse.Namespace, kind: str) -> np.ndarray:
    """Of a response of 2, 3, ... tokens; those beyond `--new` are cut, and drawn as one."""
    length = np.arange(2, args.new + 1, dtype=np.float64)
    if kind == "geometric":
        log = np.log(0.5) * length / args.median
    else:
        log = -((np.log(length / args.median) / args.sigma) ** 2) / 2 - np.log(length)
    return log - np.log(np.exp(log).sum())


def counting_model(args: argparse.Namespace, log_chance: np.ndarray) -> Decoder:
    """Its vocabulary is 0 to `--new` - 1, and last the token that begins a count."""
    config = DecoderConfig(
        vocab_size=args.new + 1,
        hidden_size=args.width,
        intermediate_size=args.mlp,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        head_dim=args.width // args.heads,
        tie_word_embeddings=False,
    )
    model = nnx.jit(lambda: Decoder(config, rngs=nnx.Rngs(0)))()
    # Nothing is added to a token's own embedding.
    for kernel in (model.layers.o_proj, model.layers.down_proj):
        kernel[...] = jnp.zeros_like(kernel[...])
    rng = np.random.default_rng(0)
    table = rng.normal(size=(args.new + 1, args.width))
    # The last coordinate is the beginning's alone. The norm makes each row as long as this one.
    table[:, -1], table[-1] = 0.0, 0.0
    table[-1, -1] = 1.0
    table *= np.sqrt(args.width) / np.linalg.norm(table, axis=1, keepdims=True)
    head = np.zeros((args.width, args.new + 1))
    head[:, : args.new - 1] = _CERTAIN / args.width * table[1 : args.new].T
    head[-1] = _NEVER / np.sqrt(args.width)
    # A first token of t makes t + 1 tokens.
    head[-1, 1 : args.new] = log_chance / np.sqrt(args.width)
    assert model.lm_head is not None
    model.embedding[...] = jnp.asarray(table, jnp.float32)
    model.lm_head[...] = jnp.asarray(head, jnp.float32)
    return model


def measure(model: Decoder, args: argparse.Namespace, kind: str) -> list[dict[str, Any]]:
    """A row for all responses at once, and one for each number of lanes."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(1, args.new, (args.prompts, args.prompt)).astype(np.int32)
    tokens[:, -1] = args.new
    settings: dict[str, Any] = {"max_new_tokens": args.new, "eos_id": 0, "pad_id": 1}
    settings["samples_per_prompt"] = args.samples

    def run(lanes: int | None) -> Callable[[], Samples]:
        return lambda: sample(
            model,
            tokens,
            np.ones_like(tokens),
            jax.random.key(0),
            max_num_seqs=lanes,
            **settings,
        )

    runs = {"all": run(None)} | {str(lanes): run(lanes) for lanes in args.lanes}
    seconds = in_turns(runs, args.repeats)
    whole = runs["all"]()
    lengths = np.asarray(whole.mask).sum(axis=1)
    rows = []
    for name, call in runs.items():
        with counted_row_steps() as work:
            out = call()
        row = {
            "lengths": kind,
            "max_num_seqs": name,
            "mean": float(lengths.mean()),
            "longest": int(lengths.max()),
            "same_tokens": bool(jnp.array_equal(out.tokens, whole.tokens)),
            "row_steps": work.total,
            "useful": float((lengths - 1).sum() / work.total),
            "seconds": statistics.median(seconds[name]),
        }
        if name != "all":
            times = ratio(seconds["all"], seconds[name])
            row |= {f"ratio_{part}": value for part, value in times.items()}
        rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse(arguments)
    rows = []
    for kind in args.lengths:
        rows += measure(counting_model(args, log_chances(args, kind)), args, kind)
    return report(MODULE, sys.argv[1:] if arguments is None else arguments, rows, args.json)


if __name__ == "__main__":
    main()
