"""One side of `benchmarks.peers`: the same ensemble by torchsde, one for each request.

Run by that benchmark as `PYTHON _torch_ensemble.py PATHS STEPS`, in an interpreter with torch and
torchsde. It imports nothing of this project.
"""

import json
import os
import resource
import sys
import time


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    paths, steps = int(sys.argv[1]), int(sys.argv[2])
    try:
        import torch  # pyright: ignore[reportMissingImports]  # only in that interpreter
        import torchsde  # pyright: ignore[reportMissingImports]  # only in that interpreter
    except ImportError as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    class Equation(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t, x):
            return -x

        def g(self, t, x):
            return 0.3 * torch.sqrt(1 + x * x)

    equation, times = Equation(), torch.tensor([0.0, 1.0], dtype=torch.float64)
    about = {"torchsde": torchsde.__version__, "torch": torch.__version__}
    print(json.dumps(about | {"threads": torch.get_num_threads()}), file=answers, flush=True)
    for line in sys.stdin:
        torch.manual_seed(json.loads(line)["turn"])
        start = time.perf_counter()
        with torch.no_grad():
            first = torch.ones(paths, 1, dtype=torch.float64)
            last = torchsde.sdeint(equation, first, times, method="euler", dt=1 / steps)[-1]
            value = float((last**2).mean())
        answer = {
            "seconds": time.perf_counter() - start,
            "loss": value,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
