"""Each objective alone, with a multiplier, and with a constant of equal mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from experiments.sweeps._command import FREE
from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._settings import TRAINING, changed
from experiments.sweeps._sittings import SittingsConfig, asked_for
from experiments.sweeps._sweep import Arm, Finished
from experiments.sweeps.brake import as_signal, taken
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.training import with_published

ObjectiveName = Literal["sdpo", "feedback", "opsd", "sdft", "rlsd", "srpo"]
OBJECTIVES: dict[str, str] = {
    "sdpo": "a peer's right answer",
    "feedback": "a peer's right answer, or else the grader's words",
    "opsd": "the solution of the data",
    "sdft": "a demonstration of the data",
    "rlsd": "the final answer of the data, beside the reward",
    "srpo": "a peer's right answer, for wrong responses; the reward for others",
}
"""What the teacher reads, by objective; `feedback` is SDPO with `teacher.feedback`."""
MULTIPLIERS = {"pgpo": "constant", "brake": "brake_constant"}
"""Each multiplier, and the arm that has its mean at every step."""
GIVEN = {
    "alone": "ρ = 1",
    "pgpo": "ρ of this step's I",
    "constant": "the mean ρ of the same seed's pgpo, at every step",
    "brake": "ρ of this step's I, with a large alpha and at most 1",
    "brake_constant": "the mean ρ of the same seed's brake, at every step",
}
"""Of each arm, what its updates are multiplied by."""
ARMS = tuple(GIVEN)


@dataclass(frozen=True, kw_only=True)
class Config(SittingsConfig):
    """Six objectives, five ways to scale their steps."""

    known: ClassVar[Sequence[str]] = ARMS
    free: ClassVar[tuple[str, ...]] = (*FREE, "objectives", "arms")
    first_seed: int = 3000
    objectives: tuple[ObjectiveName, ...] = tuple(OBJECTIVES)  # pyright: ignore[reportAssignmentType]
    """What to train now; the report shows whatever is finished."""
    brake_alpha: float = 30.0
    """Per nat, of the arm `brake`, which has rho_max = 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.brake_alpha > 0:
            raise PGPOValueError(f"brake_alpha must be positive, got {self.brake_alpha}")
        if not self.objectives:
            raise PGPOValueError(f"objectives must name some of {', '.join(OBJECTIVES)}, got none")

    def signal(self, multiplier: str) -> dict[str, Any]:
        """The section `information` of a multiplier."""
        if multiplier == "brake":
            return {"alpha": self.brake_alpha, "rho_max": 1.0}
        return {"alpha": self.alpha, "rho_max": self.rho_max}


PRESETS = {
    # None of the seeds that a verdict is made of.
    "smoke": Config(
        preset="smoke",
        seeds=2,
        first_seed=0,
        objectives=("feedback",),
        training=TRAINING["smoke"],
    ),
    "cpu": Config(),
}


def arms(config: Config) -> list[Arm]:
    """The arms that are asked for, and those that they wait for, called `objective-arm`."""
    made = [arm for name in config.objectives for arm in _arms_of(config, name)]
    return asked_for(made, config.arms, config.first_seed)


def _arms_of(config: Config, name: ObjectiveName) -> list[Arm]:
    """All arms of one objective."""

    def alone(seed: int, finished: Finished | None = None) -> ControlledConfig:
        return _base(config, name, seed)

    def scaled(multiplier: str) -> Arm:
        signal = config.signal(multiplier)
        return Arm(
            f"{name}-{multiplier}",
            lambda seed, finished: changed(alone(seed), information=signal),
        )

    def matched(multiplier: str, arm: str) -> Arm:
        of, signal = f"{name}-{multiplier}", config.signal(multiplier)

        def build(seed: int, finished: Finished) -> ControlledConfig:
            plan = changed(alone(seed), information=signal)
            mean = taken(finished(of, seed), plan.steps).mean()
            replay = as_signal(np.full(plan.steps, mean), plan.information.alpha)
            return changed(plan, control={"replay": replay})

        return Arm(f"{name}-{arm}", build, lambda seed: [(of, seed)])

    made = [Arm(f"{name}-alone", alone)]
    for multiplier, arm in MULTIPLIERS.items():
        made += [scaled(multiplier), matched(multiplier, arm)]
    return made


def _base(config: Config, name: ObjectiveName, seed: int) -> ControlledConfig:
    """An objective with its authors' settings and no multiplier."""
    base = changed(config.training, seed=seed, information={"alpha": 0.0})
    if name == "feedback":
        grader = {"name": f"{Path(__file__).with_name('_told.py')}:told"}
        return changed(base, teacher={"feedback": True}, grader=grader)
    made = with_published(base, name)
    assert isinstance(made, ControlledConfig)
    return made
