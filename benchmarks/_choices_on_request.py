"""One side of `benchmarks.choice`: the choice of tokens, or whole calls of `sample`.

Run by that benchmark as `PYTHON _choices_on_request.py FOLDER`. It takes `pgpo_jax` from the folder
and imports nothing else of this project. A request is one line; the answer has the seconds of one
call. The first call with the same settings compiles, and is answered after a second one.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def choices(request: dict[str, Any]) -> Callable[[], Any]:
    """The choice alone, `steps` times: logits are given, of rows that differ."""
    import jax
    import jax.numpy as jnp

    from pgpo_jax.models import _generate

    rows, vocabulary, top_p = (request[name] for name in ("rows", "vocab", "top_p"))
    settings = _generate.Settings(1, 1, False, top_p < 1, (0,), 0, request["top_k"])
    config = SimpleNamespace(vocab_size=vocabulary)
    model: Any = SimpleNamespace(mesh=None, config=config)
    weights: Any = SimpleNamespace(logits=lambda hidden: hidden)
    logits = 3 * jax.random.normal(jax.random.key(0), (rows, vocabulary))
    keys = jax.random.split(jax.random.key(1), rows)

    @jax.jit
    def run(logits: jax.Array) -> jax.Array:
        def step(number: Any, found: jax.Array) -> jax.Array:
            bits = _generate.random_bits(keys, number, vocabulary)
            # What was found takes part, or a step could begin before the one before it.
            x = logits + 0 * found[:, None]
            token, logprob = _generate.choose(
                model, settings, jnp.float32(1), jnp.float32(top_p), weights, x, bits
            )
            return logprob + 0 * token

        return jax.lax.fori_loop(0, request["steps"], step, jnp.zeros(rows))

    return lambda: run(logits)


def calls(request: dict[str, Any]) -> Callable[[], Any]:
    """A whole `sample` of `steps` tokens a row; 4 layers of width 256, prompts of 64 tokens."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from pgpo_jax.models import Qwen3, Qwen3Config, sample

    config = Qwen3Config(
        vocab_size=request["vocab"],
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        tie_word_embeddings=True,
    )
    model = nnx.jit(lambda: Qwen3(config, rngs=nnx.Rngs(0), dtype=jnp.float32))()
    tokens = np.random.default_rng(0).integers(1, request["vocab"], (request["rows"], 64))
    settings = {name: request[name] for name in ("top_p", "top_k")}
    return lambda: sample(
        model,
        tokens,
        np.ones_like(tokens),
        jax.random.key(0),
        max_new_tokens=request["steps"],
        # An id that random weights hardly ever draw; a row that ended costs what the others do.
        eos_id=0,
        pad_id=0,
        **settings,
    )


@functools.cache
def prepared(request: str) -> Callable[[], Any]:
    """What a request asks for, compiled."""
    import jax

    settings = json.loads(request)
    run = {"choice": choices, "call": calls}[settings.pop("what")](settings)
    jax.block_until_ready(run())
    return run


def main() -> None:
    # Answers go to the pipe; whatever else is printed goes where the log goes.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(folder))
    import jax

    import pgpo_jax

    if not Path(pgpo_jax.__file__).is_relative_to(folder):
        raise SystemExit(f"pgpo_jax must come from {folder}, got {pgpo_jax.__file__}")
    print(json.dumps({"jax": jax.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        run = prepared(line)
        start = time.perf_counter()
        jax.block_until_ready(run())
        print(json.dumps({"seconds": time.perf_counter() - start}), file=answers, flush=True)


if __name__ == "__main__":
    main()
