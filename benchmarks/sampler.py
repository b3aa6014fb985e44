"""Tokens per second of `sample` and of Hugging Face's `generate` on the same weights.

    python -m benchmarks.sampler --hugging-face /path/to/python

That interpreter needs torch and transformers (by default it is this one); the two take turns.
`generate` gets no end token. Ours needs one, and random weights draw it with a probability of
1/vocabulary. The key is chosen such that a row goes on to the last token. A row that ended costs as
much as the others, so every row counts all its tokens on both sides.

`bound` is the ratio for a call that consists only of its steps' products with the kernels: no
prompt, no attention, no norms, no choice of tokens.

With `--tail N` the benchmark compares `sample` with a `sample` that keeps every row to the end.
Responses have at most N tokens. Most of them stop early, and a few are long.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks._child import Child
from benchmarks._record import add_json_flag, in_turns, ratio, report
from pgpo_jax.models import (
    LayerWeights,
    Qwen3,
    Qwen3Config,
    Samples,
    sample,
    save_pretrained,
    step_weights,
)

MODULE = "benchmarks.sampler"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (
        ("layers", 4),
        ("width", 256),
        ("heads", 8),
        ("kv-heads", 4),
        ("head-dim", 32),
        ("mlp", 768),
        ("vocab", 512),
        ("prompt", 64),
        ("new", 128),
        ("samples", 8),
        ("repeats", 7),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--hugging-face", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--tail", type=int, default=0, metavar="N", help="see above")
    add_json_flag(parser)
    return parser.parse_args(arguments)


class HuggingFace(Child):
    """`generate` in a process of its own, asked over a pipe; it times itself."""

    def __init__(self, python: str, folder: str, dtype: str):
        script = Path(__file__).with_name("_hugging_face.py")
        device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        super().__init__([python, str(script), folder, dtype, device])

    @property
    def missing(self) -> str | None:
        """Why it cannot be measured, or None."""
        return self.about.get("error")

    def generate(self, args: argparse.Namespace, tokens: np.ndarray) -> float:
        """Seconds of one call."""
        request = {
            "tokens": tokens.tolist(),
            "new": args.new,
            "temperature": args.temperature,
            "top_p": args.top_p,
        }
        answer = self.ask(request)
        assert answer.get("shape") == [len(tokens), args.prompt + args.new], answer
        return answer["seconds"]


def random_model(args: argparse.Namespace) -> Qwen3:
    config = Qwen3Config(
        vocab_size=args.vocab,
        hidden_size=args.width,
        intermediate_size=args.mlp,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        head_dim=args.head_dim,
        tie_word_embeddings=True,
    )
    return nnx.jit(lambda: Qwen3(config, rngs=nnx.Rngs(0), dtype=jnp.dtype(args.dtype)))()


def sampler(
    model: Qwen3, args: argparse.Namespace, tokens: np.ndarray, seed: int = 0, **kw: Any
) -> Callable[[], Samples]:
    settings = {
        "max_new_tokens": args.new,
        "temperature": args.temperature,
        "top_p": args.top_p,
        "eos_id": args.vocab - 1,
        "pad_id": 0,
    } | kw
    return lambda: sample(model, tokens, np.ones_like(tokens), jax.random.key(seed), **settings)


def products_alone(model: Qwen3, rows: int, steps: int) -> Callable[[], Any]:
    """Each step's products with the kernels and nothing else, one after the other as in a step."""
    weights = step_weights(model, rows, length=1)

    @jax.jit
    def run(x: jax.Array, kernels: tuple[LayerWeights, ...], head: jax.Array) -> jax.Array:
        def step(_: Any, x: jax.Array) -> jax.Array:
            for w in kernels:
                # Every product takes part in the result, or the compiler would leave it out.
                queries = x @ w.q_proj + jnp.sum((x @ w.k_proj) * (x @ w.v_proj))
                x = x + queries @ w.o_proj
                x = x + ((x @ w.gate_proj) * (x @ w.up_proj)) @ w.down_proj
            return x / jnp.linalg.norm(x) + jnp.sum(x @ head)

        return jax.lax.fori_loop(0, steps, step, x)

    x = jnp.ones((rows, model.config.hidden_size), model.dtype)
    return lambda: run(x, weights.layers, weights.head)


def calls_in_turns(
    model: Qwen3, args: argparse.Namespace, tokens: np.ndarray, other: HuggingFace
) -> dict[str, list[float]]:
    """Seconds of calls, in turns.

    Returns:
        `ours` and `products` (each step's products alone), and `theirs` unless it is missing.
    """
    ours = next(
        run
        for seed in range(100)
        if jnp.any(jnp.all((run := sampler(model, args, tokens, seed))().mask, axis=1))
    )
    theirs: list[float] = []
    runs: dict[str, Callable[[], Any]] = {
        "ours": ours,
        "products": products_alone(model, len(tokens), args.new),
    }
    if not other.missing:
        # It times itself: the pipe is not part of its seconds.
        runs["theirs"] = lambda: theirs.append(other.generate(args, tokens))
    times = in_turns(runs, args.repeats)
    # The first call is not counted, on either side.
    return times if other.missing else times | {"theirs": theirs[1:]}


def beside_hugging_face(
    model: Qwen3, args: argparse.Namespace, tokens: np.ndarray, other: HuggingFace
) -> dict[str, Any]:
    """One row of the table: our seconds and theirs, in turns."""
    times = calls_in_turns(model, args, tokens, other)
    seconds, products = times["ours"], times["products"]
    made = len(tokens) * args.new
    row: dict[str, Any] = {
        "batch": len(tokens),
        "tokens_per_second": made / statistics.median(seconds),
        "ms_per_step": 1e3 * statistics.median(seconds) / args.new,
        "ms_products": 1e3 * statistics.median(products) / args.new,
    }
    if theirs := times.get("theirs"):
        row["hugging_face"] = made / statistics.median(theirs)
        row |= {f"ratio_{name}": value for name, value in ratio(theirs, seconds).items()}
        row["bound"] = ratio(theirs, products)["median"]
    return row


def prefill_gflop(model: Qwen3, args: argparse.Namespace, samples: int) -> float:
    """The compiler's count for one prompt up to the first token of its `samples` responses."""
    graphdef, params = nnx.split(model, nnx.Param)

    @jax.jit
    def first_token(params: Any, tokens: jax.Array, keys: jax.Array) -> Samples:
        return sample(
            nnx.merge(graphdef, params),
            tokens,
            jnp.ones_like(tokens),
            keys,
            max_new_tokens=1,
            eos_id=args.vocab - 1,
            pad_id=0,
            samples_per_prompt=samples,
        )

    tokens = jax.ShapeDtypeStruct((1, args.prompt), jnp.int32)
    keys = jax.random.split(jax.random.key(0), samples)
    analysis = first_token.lower(params, tokens, keys).compile().cost_analysis()
    assert analysis is not None, "this backend does not count operations"
    return analysis["flops"] / 1e9


def every_row_kept(
    model: Qwen3, args: argparse.Namespace, tokens: np.ndarray, **kw: Any
) -> Callable[[], Samples]:
    """The same sampling as one program: no row can be left behind there."""
    graphdef, params = nnx.split(model, nnx.Param)
    run = jax.jit(lambda params: sampler(nnx.merge(graphdef, params), args, tokens, **kw)())
    return lambda: run(params)


def tail(model: Qwen3, args: argparse.Namespace, tokens: np.ndarray) -> dict[str, Any]:
    """One row of the table of `--tail`: rows that ended left behind, or kept."""
    # Eight ids end a response: the mean length is an eighth of the vocabulary, the longest of many
    # rows several times that.
    ends = tuple(range(args.vocab - 8, args.vocab))
    settings = {"max_new_tokens": args.tail, "eos_id": ends}
    run = sampler(model, args, tokens, **settings)
    kept = every_row_kept(model, args, tokens, **settings)
    seconds = in_turns({"dropped": run, "kept": kept}, args.repeats)
    one, other = run(), kept()
    lengths = np.asarray(jnp.sum(one.mask, axis=1))
    times = ratio(seconds["kept"], seconds["dropped"])
    return {
        "batch": len(tokens),
        "mean_length": float(lengths.mean()),
        "longest": int(lengths.max()),
        "same_tokens": bool(jnp.array_equal(one.tokens, other.tokens)),
        "kept_tokens_per_second": lengths.sum() / statistics.median(seconds["kept"]),
        "tokens_per_second": lengths.sum() / statistics.median(seconds["dropped"]),
        **{f"ratio_{name}": value for name, value in times.items()},
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse(arguments)
    model = random_model(args)
    rng = np.random.default_rng(0)
    prompts = [
        rng.integers(1, args.vocab - 8, (batch, args.prompt)).astype(np.int32)
        for batch in args.batch
    ]
    given = sys.argv[1:] if arguments is None else arguments
    if args.tail:
        return report(MODULE, given, [tail(model, args, tokens) for tokens in prompts], args.json)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder)
        other = HuggingFace(args.hugging_face, folder, args.dtype)
        if other.missing:
            print(
                f"Hugging Face is not measured: {other.missing} (--hugging-face names an "
                "interpreter that has torch and transformers)",
                file=sys.stderr,
            )
        try:
            rows = [beside_hugging_face(model, args, tokens, other) for tokens in prompts]
        finally:
            other.close()
    prefill = {
        f"{samples} samples": prefill_gflop(model, args, samples) for samples in (1, args.samples)
    }
    record = report(MODULE, given, rows, args.json, hugging_face=other.about, prefill_gflop=prefill)
    for samples, gflop in prefill.items():
        print(f"prompt and first token of {samples}: {gflop:.4g} GFLOP")
    return record


if __name__ == "__main__":
    main()
