"""The information budget, brakes by other signals, and what might do as well."""

import math
from dataclasses import dataclass

import numpy as np

from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._dose import DoseConfig
from experiments.sweeps._settings import TRAINING, changed
from experiments.sweeps._sweep import Arm, Finished
from experiments.sweeps.brake import SETTINGS, as_signal, placed, taken
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports import RunRecord

CONTROLS = ("sdpo", "constant", "radius", "brake", "trust_region")
SIGNALS = {"pointwise": "pointwise", "contrast": "outcome_contrast"}
"""Arms with a brake by another signal, and its estimator."""
GIVEN = {
    "sdpo": "ρ = 1",
    "brake": "ρ of this step's I, with a large alpha and at most 1",
    "budget": "the ρ that moves the policy by c times this step's I",
    "constant": "the mean ρ of the same seed's budget, at every step",
    "radius": "the ρ that moves the policy by c times the mean I of the same seed's budget",
    "trust_region": "ρ = 1, and a teacher that is mixed with the initial model",
    "pointwise": "the brake, by the log-ratio of the sampled tokens",
    "contrast": "the brake, by the log-ratio of right minus that of wrong responses",
}
"""Of each arm, what its updates are multiplied by."""


@dataclass(frozen=True, kw_only=True)
class Config(DoseConfig):
    """SDPO where it collapses, eight ways."""

    alpha: float = 30.0
    """Per nat, of the brakes."""
    rho_max: float = 1.0
    """No arm lengthens a step."""
    budget: float = 0.1
    """Nats that a step may move the policy per nat of information."""
    margin: float = 0.03
    """The smallest difference in area that matters."""
    first_seed: int = 2200
    seeds: int = 16
    planned: int = 16
    """Seeds that a verdict needs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.budget < math.inf:
            raise PGPOValueError(f"budget must be positive and finite, got {self.budget}")

    def start(self, seed: int) -> ControlledConfig:
        """SDPO with a live teacher, at a learning rate at which it collapses."""
        return placed(self.training, SETTINGS["live"], seed)

    def budgeted(self, seed: int) -> ControlledConfig:
        """The same with the budget."""
        return self.with_signal(self.start(seed), alpha=0.0, budget=self.budget)


_EVALUATION = {"every": 5, "questions": 64, "samples": 2}
PRESETS = {
    # None of the seeds that a verdict is made of.
    "smoke": Config(preset="smoke", seeds=2, planned=6, first_seed=0, training=TRAINING["smoke"]),
    "cpu": Config(training=changed(TRAINING["cpu"], steps=60, evaluation=_EVALUATION)),
    "gpu": Config(preset="gpu", training=changed(TRAINING["gpu"], steps=60)),
}


def arms(config: Config) -> list[Arm]:
    """Eight arms; two of them wait for the budget of their seed."""

    def constant(seed: int, finished: Finished) -> ControlledConfig:
        plan = config.start(seed)
        mean = taken(finished("budget", seed), plan.steps).mean()
        return config.with_control(plan, replay=as_signal([mean] * plan.steps, config.alpha))

    def radius(seed: int, finished: Finished) -> ControlledConfig:
        plan = config.budgeted(seed)
        mean = mean_information(finished("budget", seed))
        return changed(plan, control={"replay": (mean,) * plan.steps})

    def after_budget(seed: int) -> list[tuple[str, int]]:
        return [("budget", seed)]

    def other_signal(name: str, estimator: str) -> Arm:
        return Arm(
            name,
            lambda seed, finished: config.with_signal(config.start(seed), estimator=estimator),
        )

    return [
        Arm("sdpo", lambda seed, finished: config.start(seed)),
        Arm("brake", lambda seed, finished: config.with_signal(config.start(seed))),
        Arm("budget", lambda seed, finished: config.budgeted(seed)),
        Arm("constant", constant, after_budget),
        Arm("radius", radius, after_budget),
        Arm(
            "trust_region",
            lambda seed, finished: changed(config.start(seed), teacher={"kind": "trust_region"}),
        ),
        *(other_signal(name, estimator) for name, estimator in SIGNALS.items()),
    ]


def mean_information(run: RunRecord) -> float:
    """The mean of max(I, 0) over the steps of a run that trained something, in nats."""
    steps, values = run.series("pgpo/information")
    applied = dict(zip(*run.series("optimizer/applied"), strict=True))
    used = [max(i, 0.0) for step, i in zip(steps, values, strict=True) if applied.get(step)]
    return float(np.mean(used)) if used else 0.0
