"""Tokens per second of `sample`, beside Hugging Face's `generate` when torch is installed.

python -m benchmarks.sampler --help
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pgpo_jax.models import Qwen3, Qwen3Config, sample, save_pretrained


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
        ("repeats", 5),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    return parser.parse_args(arguments)


def hugging_face(folder: str, args: argparse.Namespace) -> Callable[[np.ndarray], Any] | None:
    """`generate` of transformers on the saved weights, or None without torch."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch  # pyright: ignore[reportMissingImports]  # optional here
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, args.dtype))
    model = model.eval().to(device)

    def generate(tokens: np.ndarray) -> None:
        ids = torch.tensor(tokens, device=device).long()
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=args.new,
            min_new_tokens=args.new,
            do_sample=True,
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=0,
            pad_token_id=0,
        )
        assert out.shape[1] == args.prompt + args.new

    return generate


def timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    args = parse(arguments)
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
    model = nnx.jit(lambda: Qwen3(config, rngs=nnx.Rngs(0), dtype=jnp.dtype(args.dtype)))()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder)
        generate = hugging_face(folder, args)
        for batch in args.batch:
            tokens = np.random.default_rng(0).integers(1, args.vocab - 1, (batch, args.prompt))
            tokens = tokens.astype(np.int32)
            produced: list[tuple[int, int]] = []

            def ours(
                tokens: np.ndarray = tokens, produced: list[tuple[int, int]] = produced
            ) -> None:
                out = sample(
                    model,
                    tokens,
                    np.ones_like(tokens),
                    jax.random.key(0),
                    max_new_tokens=args.new,
                    temperature=args.temperature,
                    top_p=args.top_p,
                    # Random weights reach it rarely; tokens after it are not counted.
                    eos_id=args.vocab - 1,
                    pad_id=0,
                )
                lengths = jnp.sum(out.mask, axis=1)
                produced.append((int(jnp.sum(lengths)), int(jnp.max(lengths))))

            first = timed(ours)
            theirs: list[float] = []
            times: list[float] = []
            if generate is not None:
                generate(tokens)
            # Interleaved, so that a busy moment of the machine hits both.
            for _ in range(args.repeats):
                times.append(timed(ours))
                if generate is not None:
                    theirs.append(timed(lambda tokens=tokens: generate(tokens)))
            best = min(times)
            row: dict[str, Any] = {
                "batch": batch,
                "compile_seconds": first - best,
                "tokens_per_second": produced[-1][0] / best,
                "ms_per_step": 1e3 * best / produced[-1][1],
            }
            if theirs:
                row["hugging_face_tokens_per_second"] = batch * args.new / min(theirs)
                row["ratio"] = row["tokens_per_second"] / row["hugging_face_tokens_per_second"]
            rows.append(row)
            print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
    if args.out is not None:
        machine = {
            "jax": jax.__version__,
            "device": jax.devices()[0].device_kind,
            "python": platform.python_version(),
        }
        settings = {key: str(value) for key, value in vars(args).items()}
        args.out.write_text(
            json.dumps({"machine": machine, "settings": settings, "rows": rows}, indent=2) + "\n"
        )
    return rows


if __name__ == "__main__":
    main()
