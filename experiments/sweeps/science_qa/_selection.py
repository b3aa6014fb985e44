"""What choosing an evaluation, and an alpha, adds."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from experiments.sweeps._seed_means import over_seeds
from pgpo_jax.reports import Interval, RunRecord

RULES = ("fixed step", "best on validation", "best on test")
Quoted = dict[str, Float[np.ndarray, " Q"]]
"""The scores of each test question at the step that a rule chooses, by rule."""


def quote(run: RunRecord) -> Quoted:
    """A run's test accuracy by each rule; the evaluation before training is no candidate."""
    names = sorted(run.scores[0])
    validation, test = names[::2], names[1::2]
    steps = [step for step in sorted(run.scores) if step > 0]

    def on(half: Sequence[str], step: int) -> Float[np.ndarray, " Q"]:
        return np.array([run.scores[step][name] for name in half])

    def best(half: Sequence[str]) -> int:
        # The earliest of equals.
        return max(steps, key=lambda step: (on(half, step).mean(), -step))

    chosen = (steps[-1], best(validation), best(test))
    return {rule: on(test, step) for rule, step in zip(RULES, chosen, strict=True)}


def selection(
    quoted: Mapping[str, Sequence[Quoted]], domains: Sequence[str], names: Sequence[str]
) -> dict[str, Interval]:
    """What choosing on the test split adds, with intervals over seeds.

    `evaluation`: best on test minus best on validation, over all runs. `alpha`: the best PGPO run
    by test minus SDPO at the same seed, best on test each. `noise`: the same after each alpha's
    mean difference has been taken away: what choosing among these runs shows of nothing. `seed`:
    the best of as many SDPO runs of other seeds minus SDPO: the same for alphas that had a seed
    each, and so differed by more. `fixed`: the mean PGPO run minus SDPO at the fixed step, where
    nothing is chosen.
    """
    others = [name for name in names if name != "sdpo"]
    count = len(quoted[f"{domains[0]}-sdpo"])
    found: dict[str, list[Float[np.ndarray, " S"]]] = {
        key: [] for key in ("evaluation", "alpha", "noise", "seed", "fixed")
    }
    for domain in domains:

        def means(
            name: str, rule: str = "best on test", domain: str = domain
        ) -> Float[np.ndarray, " S"]:
            return np.array([q[rule].mean() for q in quoted[f"{domain}-{name}"]])

        own, at_end = means("sdpo"), means("sdpo", "fixed step")
        gains = np.array([means(n) - own for n in others])
        # The mean that is taken away is of the same seeds, which costs one of them.
        noise = (gains - gains.mean(1, keepdims=True)) * np.sqrt(count / (count - 1))
        rivals = [np.roll(own, -shift) for shift in range(1, min(len(others), count - 1) + 1)]
        by_rule = [means(n) - means(n, "best on validation") for n in names]
        found["evaluation"].append(np.mean(by_rule, axis=0))
        found["alpha"].append(gains.max(0))
        found["noise"].append(noise.max(0))
        found["seed"].append(np.max(rivals, axis=0) - own)
        found["fixed"].append(np.mean([means(n, "fixed step") - at_end for n in others], axis=0))
    return {key: over_seeds(np.mean(rows, axis=0)) for key, rows in found.items()}
