"""One side of two benchmarks: our compiled step on a folder's weights, a step a request.

Run by `benchmarks.real_step` and `benchmarks.peers` as
`PYTHON -m benchmarks._model_steps FOLDER SHAPE`. SHAPE is JSON: the arguments of `grouped_tokens`,
`support` and `chunk` of `LossConfig`, `share_prompts` of `RolloutConfig`, and `remat`.
"""

import json
import os
import resource
import sys
import time

import jax
from flax import nnx

from benchmarks._batch import grouped_batch
from benchmarks._config_step import first_state, jitted_step
from pgpo_jax.models import load_pretrained
from pgpo_jax.training import InformationConfig, LossConfig, RolloutConfig, TrainConfig


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder, shape = sys.argv[1], json.loads(sys.argv[2])
    support, share = shape.pop("support", "topk_tail"), shape.pop("share_prompts", False)
    chunk, remat = shape.pop("chunk", LossConfig().chunk), shape.pop("remat", False)
    questions = shape.get("questions", 1)
    config = TrainConfig(
        dtype="float32",
        remat=remat,
        rollout=RolloutConfig(
            questions=questions,
            samples=shape["rows"] // questions,
            row_buckets=1,
            share_prompts=share,
        ),
        loss=LossConfig(support=support, chunk=chunk),
        information=InformationConfig(alpha=1.0),
    )
    model = load_pretrained(folder, remat=remat)
    batch = grouped_batch(model.config.vocab_size, shape, share=share)
    graphdef, params = nnx.split(model, nnx.Param)
    state = first_state(params, config)
    del params, model
    start = time.perf_counter()
    step = jitted_step(graphdef, config).lower(state, batch).compile()
    about = {
        "jax": jax.__version__,
        "compile_seconds": time.perf_counter() - start,
        "temp_mb": step.memory_analysis().temp_size_in_bytes / 1e6,
    }
    print(json.dumps(about), file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        state, metrics, _tokens = jax.block_until_ready(step(state, batch))
        answer = {
            "seconds": time.perf_counter() - start,
            "loss": float(metrics["loss"]),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
