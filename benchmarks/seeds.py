"""Runs of several seeds: one after another, or as one program over an axis of seeds.

    python -m benchmarks.seeds --seeds 2 4 8 --rounds 8

It measures the two costly parts of a step of the studies (`TRAINING["cpu"]`, the shipped model):
sampling a step's responses, and the update. `one by one` calls the program of a run S times.
`together` calls it once under `jax.vmap`, with weights, moments, batches and keys of S seeds. They
take turns. A ratio above 1 says that one program is faster. The largest difference between the
weights after both updates is given as well.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks._batch import random_batch
from benchmarks._config_step import first_state, jitted_step
from benchmarks._record import add_json_flag, in_turns, ratio, report
from experiments.sweeps import TRAINING
from pgpo_jax.models import load_pretrained, sample
from pgpo_jax.training import model_folder

MODULE = "benchmarks.seeds"
_TEACHER_PROMPT = 72


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--rounds", type=int, default=8)
    add_json_flag(parser)
    args = parser.parse_args(arguments)
    if min(*args.seeds, args.rounds) < 1:
        parser.error("--seeds and --rounds must be at least 1")
    return args


def measure(seeds: int, rounds: int) -> list[dict[str, Any]]:
    """A row for the update and one for the sampling.

    Args:
        seeds: runs side by side.
        rounds: timed calls of each.
    """
    config = TRAINING["cpu"]
    settings = config.rollout
    graphdef, params = nnx.split(load_pretrained(model_folder(config.model)), nnx.Param)
    vocabulary = nnx.merge(graphdef, params).config.vocab_size
    batches = [
        random_batch(
            vocabulary,
            rows=settings.rows,
            prompt=settings.max_prompt,
            teacher_prompt=_TEACHER_PROMPT,
            response=settings.max_response,
            seed=seed,
        )
        for seed in range(seeds)
    ]
    step = jitted_step(graphdef, config)

    def fresh() -> list[Any]:
        # Another learning rate than 0, which the warm-up starts from, is that of a later step.
        states = [first_state(jax.tree.map(jnp.copy, params), config) for _ in range(seeds)]
        return [step(state, batch)[0] for state, batch in zip(states, batches, strict=True)]

    together = jax.jit(jax.vmap(lambda state, batch: step(state, batch)[:2]), donate_argnums=0)
    single, many = fresh(), _stacked(fresh())
    stacked_batch = _stacked(batches)

    def one_by_one() -> Any:
        for i, batch in enumerate(batches):
            single[i] = step(single[i], batch)[0]
        return single

    def at_once() -> Any:
        nonlocal many
        many, _ = together(many, stacked_batch)
        return many

    rows = [_row("update", seeds, in_turns({"one": one_by_one, "all": at_once}, rounds))]
    rows[0]["largest_difference"] = max(
        float(jnp.max(jnp.abs(a - b)))
        for a, b in zip(
            jax.tree.leaves(_stacked([state.params for state in single])),
            jax.tree.leaves(many.params),
            strict=True,
        )
    )
    prompts = np.asarray(batches[0].prompt[:: settings.samples])

    def responses(weights: Any, key: jax.Array) -> jax.Array:
        return sample(
            nnx.merge(graphdef, weights),
            prompts,
            np.ones_like(prompts),
            key,
            max_new_tokens=settings.max_response,
            samples_per_prompt=settings.samples,
            eos_id=0,
            pad_id=0,
        ).tokens

    of_one, of_all = jax.jit(responses), jax.jit(jax.vmap(responses))
    keys = jax.random.split(jax.random.key(0), seeds)
    weights = [state.params for state in single]
    stacked = _stacked(weights)
    times = in_turns(
        {
            "one": lambda: [of_one(w, key) for w, key in zip(weights, keys, strict=True)],
            "all": lambda: of_all(stacked, keys),
        },
        rounds,
    )
    return [*rows, _row("sampling", seeds, times)]


def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _row(part: str, seeds: int, seconds: dict[str, list[float]]) -> dict[str, Any]:
    times = ratio(seconds["one"], seconds["all"])
    return {
        "part": part,
        "seeds": seeds,
        "one_by_one": statistics.median(seconds["one"]),
        "together": statistics.median(seconds["all"]),
        **{f"ratio_{name}": value for name, value in times.items()},
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse(arguments)
    rows = [row for seeds in args.seeds for row in measure(seeds, args.rounds)]
    return report(MODULE, sys.argv[1:] if arguments is None else arguments, rows, args.json)


if __name__ == "__main__":
    main()
