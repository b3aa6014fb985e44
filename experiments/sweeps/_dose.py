"""Sweeps at a dose that shows, with controls that are matched to a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from experiments.sweeps._command import SweepConfig
from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._seed_means import mean_of
from experiments.sweeps._settings import TRAINING, changed
from experiments.sweeps._sweep import Arm, Finished
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports import RunRecord


@dataclass(frozen=True, kw_only=True)
class DoseConfig(SweepConfig):
    """A sweep whose multiplier is strong enough for its effect to be seen."""

    alpha: float = 5.0
    """Per nat. At the paper's 0.5 to 1.5 the shipped model's rho is within some per cent of 1."""
    rho_max: float = 4.0
    """The cap; the entropy gain of the shipped model stayed below it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha < math.inf:
            raise PGPOValueError(f"alpha must be positive and finite, got {self.alpha}")

    def sdpo(self, seed: int, **changes: Any) -> ControlledConfig:
        """Plain SDPO, and changes of it."""
        plain = changed(self.training, seed=seed, information={"alpha": 0.0})
        return changed(plain, **changes)

    def with_signal(self, base: ControlledConfig, **information: Any) -> ControlledConfig:
        """`base` with the multiplier, and with changes of the section `information`."""
        signal = {"alpha": self.alpha, "rho_max": self.rho_max, **information}
        return changed(base, information=signal)

    def with_control(self, base: ControlledConfig, **control: Any) -> ControlledConfig:
        """`base` with the multiplier, and with changes of what it is given."""
        return changed(self.with_signal(base), control=control)

    def constant(self, run: RunRecord) -> tuple[float, ...]:
        """The signal, in nats at every step, whose rho is the mean rho of `run`."""
        return (math.log(mean_of(run, "pgpo/rho")) / self.alpha,) * self.training.steps

    def matched(self, name: str, to: str, base: Callable[[int], ControlledConfig]) -> Arm:
        """An arm that takes the mean rho of another arm's run at every step.

        Args:
            name: of the arm.
            to: the other arm, at the same seed.
            base: its configuration without the multiplier, for a seed.
        """

        def build(seed: int, finished: Finished) -> ControlledConfig:
            return self.with_control(base(seed), replay=self.constant(finished(to, seed)))

        return Arm(name, build, lambda seed: [(to, seed)])


Dose = TypeVar("Dose", bound=DoseConfig)


def dose_presets(config: type[Dose]) -> dict[str, Dose]:
    """The presets `smoke`, `cpu` and `gpu` of a sweep that changes nothing else in them."""
    return {
        "smoke": config(preset="smoke", seeds=2, training=TRAINING["smoke"]),
        "cpu": config(),
        "gpu": config(preset="gpu", seeds=20, training=TRAINING["gpu"]),
    }
