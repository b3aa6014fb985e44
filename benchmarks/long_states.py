"""What a step of an equation with minibatch noise costs by the number of parameters.

    python -m benchmarks.long_states --json long_states.json

The problem has `--examples` springs in d dimensions, so the noise of a path is made of as many
gradients. The lengths take turns in one process. Each is timed for `--paths` paths of `--steps`
Euler steps with float32 normals. The median over rounds is reported.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import sde
from benchmarks._record import add_json_flag, report

LENGTHS = (125, 250, 500, 1000)


@dataclass(frozen=True, kw_only=True)
class Springs(sde.Problem):
    """Every coordinate is pulled to a centre of its own, another one for every example.

    So the noise does not depend on the state, and the equation is linear.
    """

    examples: int = 32

    def centres(self) -> Float[Array, "N d"]:
        index = jnp.arange(self.examples * self.dim, dtype=float)
        return 0.5 * jnp.sin(1.0 + 2.0 * index.reshape(self.examples, self.dim))

    def losses(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        return 0.5 * jnp.sum((theta - self.centres()) ** 2, axis=1)

    def gradients(self, theta: Float[Array, " d"]) -> Float[Array, "N d"]:
        return theta - self.centres()

    def signals(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        return jnp.tanh(theta[0] * jnp.linspace(-0.5, 1.0, self.examples))


def runs(args: argparse.Namespace) -> dict[int, Callable[[int], float]]:
    """One timed ensemble per length, of the corrected equation of PGPO."""

    def run_of(length: int) -> Callable[[int], float]:
        problem = Springs(theta0=(1.0,) * length, examples=args.examples)

        def run(turn: int) -> float:
            ends = sde.simulate(
                problem,
                "corrected",
                chain="pgpo_minibatch",
                eta=1.0 / args.steps,
                paths=args.paths,
                key=jax.random.key(turn),
                normals="float32",
            )
            return float(ends.mean())

        return run

    return {length: run_of(length) for length in LENGTHS}


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--paths", type=int, default=64)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    add_json_flag(parser)
    args = parser.parse_args(argv)
    seconds: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for turn in range(args.rounds + 1):
        for length, run in runs(args).items():
            start = time.perf_counter()
            run(turn)
            # The first round compiles.
            if turn:
                seconds[length].append(time.perf_counter() - start)
    each = {n: statistics.median(took) / args.paths / args.steps for n, took in seconds.items()}
    rows = [
        {
            "parameters": length,
            "us_per_path_step": 1e6 * each[length],
            "over_shortest": each[length] / each[LENGTHS[0]],
            "lengths_ratio": length / LENGTHS[0],
        }
        for length in LENGTHS
    ]
    report("benchmarks.long_states", sys.argv[1:] if argv is None else argv, rows, args.json)


if __name__ == "__main__":
    main()
