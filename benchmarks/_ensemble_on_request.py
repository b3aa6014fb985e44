"""One side of `benchmarks.peers`: an ensemble of paths by JAX or NumPy, one for each request.

Run by that benchmark as `PYTHON -m benchmarks._ensemble_on_request PROGRAM PATHS STEPS`.
"""

import json
import os
import resource
import sys
import time

import jax
import numpy as np

from benchmarks.sde_simulation import diffrax_run, numpy_run, scan_run
from sde.monte_carlo import CHUNK


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, paths, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    jax.config.update("jax_enable_x64", True)
    if name.startswith("diffrax"):
        narrow = name.endswith("float32 normals")
        run = diffrax_run(paths, steps, CHUNK, "float32" if narrow else "float64")
    else:
        run = {"lax.scan": scan_run, "NumPy": numpy_run}[name](paths, steps)
    about = {"jax": jax.__version__, "numpy": np.__version__}
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        turn = json.loads(line)["turn"]
        start = time.perf_counter()
        value = run(turn)
        answer = {
            "seconds": time.perf_counter() - start,
            "loss": value,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
