"""One side of `benchmarks.choice`: calls of `sample` with a usual or a very thin model.

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
from typing import Any

# Of the thin model nearly all time goes into the choice of the tokens.
_SHAPES = {"call": (256, 768, 4, 32), "choice": (8, 8, 1, 8)}


def calls(request: dict[str, Any], what: str) -> Callable[[], Any]:
    """A `sample` of `steps` tokens a row behind prompts of 64 tokens."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from pgpo_jax.models import Qwen3, Qwen3Config, sample

    width, mlp, layers, head = _SHAPES[what]
    config = Qwen3Config(
        vocab_size=request["vocab"],
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=width // head,
        num_key_value_heads=max(1, width // head // 2),
        head_dim=head,
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
    run = calls(settings, settings.pop("what"))
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
