"""The finished runs of a sweep, and what they scored."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from experiments.sweeps._sweep import Sweep
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports import RunRecord

Records = Mapping[str, Sequence[RunRecord]]
"""The finished runs of each arm, one per seed, in the order of the seeds."""


def finished_records(sweep: Sweep) -> tuple[list[int], dict[str, list[RunRecord]]]:
    """The seeds at which all arms are finished, and their runs.

    Raises:
        ValueError: if there are fewer than 2 such seeds.
    """
    seeds = sweep.complete_seeds()
    if len(seeds) < 2:
        raise PGPOValueError(
            f"{sweep.folder} needs at least 2 seeds with all arms, has {len(seeds)}"
        )
    records = {arm.name: [sweep.record(arm.name, s) for s in seeds] for arm in sweep.arms}
    return seeds, {name: [_to_the_end(run) for run in runs] for name, runs in records.items()}


def _to_the_end(run: RunRecord) -> RunRecord:
    """A run with 0 for the evaluations that it did not live to see.

    One that was stopped by gradients that are not finite would otherwise be judged by its
    beginning, from before it went wrong.
    """
    end, every = run.config["steps"], run.config["evaluation"]["every"]
    nothing = dict.fromkeys(run.scores[min(run.scores)], 0.0)
    planned = dict.fromkeys([*range(0, end, every), end], nothing)
    return dataclasses.replace(run, scores=planned | run.scores)


def scores(
    records: Records, at: Callable[[Sequence[int]], Sequence[int]]
) -> dict[str, Float[np.ndarray, "S Q"]]:
    """The share of right answers by arm, seed and question, averaged over evaluations.

    Args:
        records: of each arm.
        at: which of the evaluations' steps.
    """
    questions = sorted(next(iter(records.values()))[0].scores[0])

    def row(record: RunRecord) -> Float[np.ndarray, " Q"]:
        steps = at(sorted(record.scores))
        return np.mean([[record.scores[s][q] for q in questions] for s in steps], axis=0)

    return {name: np.array([row(r) for r in runs]) for name, runs in records.items()}


def later(share: float) -> Callable[[Sequence[int]], Sequence[int]]:
    """The evaluations of the rest of a run, from a share of its steps on."""
    return lambda steps: [s for s in steps if s >= share * steps[-1] - 1e-9] or steps[-1:]


OUTCOME = "mean held-out accuracy"
"""Of the falsification test and what is compared with it: over the evaluations `SETTLED`."""
SETTLED = later(1 / 3)


def last(steps: Sequence[int]) -> Sequence[int]:
    """The last evaluation."""
    return steps[-1:]
