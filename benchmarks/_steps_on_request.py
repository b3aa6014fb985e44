"""One side of `benchmarks.open_parts`: plain SDPO by the preset `tiny`, a step for each request.

Run by that benchmark as `PYTHON _steps_on_request.py FOLDER`. It takes `pgpo_jax` from the folder,
and knows the trainer before and after it was rebuilt from parts. It imports nothing else of this
project. A request is one line; the answer has the seconds of `Trainer.step`, its metrics and
timings, and how many programs this process has compiled so far.
"""

import json
import os
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

EVENT = "/jax/core/compile/backend_compile_duration"
"""What JAX reports once per program, also for one that it finds in its cache on disk."""


def make_trainer(training: Any) -> Any:
    """A trainer of plain SDPO, by whichever interface this build has."""
    config = training.PRESETS["tiny"]
    if hasattr(config, "method"):
        return training.Trainer(replace(config, method="sdpo"))
    config = replace(config, information=replace(config.information, alpha=0.0))
    return training.Trainer(*config.build(), **config.trainer_settings())


def main() -> None:
    # Answers go to the pipe; whatever else is printed goes where the log goes.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(folder))
    import jax
    import numpy as np

    from pgpo_jax import training

    if not Path(training.__file__).is_relative_to(folder):
        raise SystemExit(f"pgpo_jax must come from {folder}, got {training.__file__}")
    compiled = 0

    def count(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        nonlocal compiled
        compiled += event == EVENT

    jax.monitoring.register_event_duration_secs_listener(count)
    trainer = make_trainer(training)
    state = trainer.initial_state
    versions = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
    }
    print(json.dumps(versions), file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        state, report = trainer.step(state)
        jax.block_until_ready(state)
        answer = {
            "seconds": time.perf_counter() - start,
            "metrics": report.metrics,
            "timings": report.timings,
            "programs": compiled,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
