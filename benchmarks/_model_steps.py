"""One side of `benchmarks.real_step`: our compiled step on a folder's weights, a step a request.

Run by that benchmark as `PYTHON -m benchmarks._model_steps FOLDER SHAPE`; SHAPE is JSON.
"""

import json
import os
import resource
import sys
import time

import jax

from benchmarks._batch import random_batch
from benchmarks._config_step import first_state, jitted_step
from pgpo_jax.training import InformationConfig, RolloutConfig, TrainConfig, load_policy


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder, shape = sys.argv[1], json.loads(sys.argv[2])
    config = TrainConfig(
        dtype="float32",
        remat=False,
        rollout=RolloutConfig(questions=1, samples=shape["rows"], row_buckets=1),
        information=InformationConfig(alpha=1.0),
    )
    policy, params = load_policy(folder, dtype="float32")
    batch = random_batch(policy.vocabulary or 0, **shape)
    state = first_state(params, config)
    del params
    step = jitted_step(policy.graphdef, config).lower(state, batch).compile()
    about = {"jax": jax.__version__, "temp_mb": step.memory_analysis().temp_size_in_bytes / 1e6}
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
