"""The brake, its variants, and what might do as well."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from experiments.sweeps._command import FREE
from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._settings import TRAINING, changed
from experiments.sweeps._sittings import SittingsConfig, asked_for
from experiments.sweeps._sweep import Arm, Finished
from experiments.sweeps.brake._schedules import (
    as_signal,
    before_negative,
    best_step,
    cosine,
    taken,
    until,
)
from experiments.sweeps.brake._settings import (
    PRIMARY,
    SETTINGS,
    SettingName,
    neighbour,
    placed,
)
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports import RunRecord

Schedule = Callable[[list[RunRecord], int], np.ndarray]
"""From finished runs and a number of steps to a multiplier per step."""

GIVEN = {
    "sdpo": "ρ = 1",
    "brake": "ρ of this step's I, with a large alpha and at most 1",
    "constant": "the mean ρ of the same seed's brake, at every step",
    "other": "the ρ of another seed's brake, in order",
    "fitted": "the mean ρ by step of brakes at seeds that are not compared",
    "stop": "ρ = 1 until the first I < 0 of the same seed's SDPO, then 0",
    "cosine": "a half cosine from 1 to 0, with the sum of ρ of the same seed's brake",
    "oracle": "ρ = 1 until the best evaluation of the same seed's SDPO, then 0",
    "pgpo": "ρ of this step's I, with alpha and cap as published",
    "clip": "ρ = 1, and gradients clipped to a tenth of the usual norm",
    "trust_region": "ρ = 1, and a teacher that is mixed with the initial model",
    "weak": "the brake with a smaller alpha",
    "steep": "the brake with a larger alpha",
    "mean": "the brake, given a running mean of I",
    "delayed": "the brake, given the I of the step before",
    "floor": "the brake with a least ρ above 0",
}
"""Of each arm, what its updates are multiplied by."""
ARMS = tuple(GIVEN)
"""Of the primary setting; the others have `CORE`."""
CORE = ARMS[: ARMS.index("stop") + 1]
VARIANTS = ARMS[ARMS.index("weak") :]
CONTROLS = ("sdpo", "constant", "other", "fitted", "cosine", "stop", "pgpo", "clip", "trust_region")


@dataclass(frozen=True, kw_only=True)
class Config(SittingsConfig):
    """The brake and its controls in nine settings."""

    known: ClassVar[Sequence[str]] = ARMS
    free: ClassVar[tuple[str, ...]] = (*FREE, "settings", "arms")
    alpha: float = 30.0
    """Per nat, of the brake."""
    rho_max: float = 1.0
    """The brake only shortens steps."""
    weak_alpha: float = 10.0
    """Of the arm `weak`."""
    steep_alpha: float = 100.0
    """Of the arm `steep`."""
    decay: float = 0.8
    """Of the arm `mean`: the brake sees the mean of about the last five I."""
    least: float = 0.05
    """Of the arm `floor`: rho_min."""
    published_alpha: float = 1.5
    """Of the arm `pgpo`, with rho_max = 2: the paper's largest, and our default cap."""
    clip: float = 0.1
    """Of the arm `clip`: the gradient norm that is let through, a tenth of the usual."""
    margin: float = 0.03
    """The smallest difference in accuracy that matters."""
    seeds: int = 24
    first_seed: int = 2000
    planned: int = 24
    donors: int = 8
    """Runs that the fitted schedule is the mean of; they are no part of any comparison."""
    first_donor: int = 2100
    """Their seeds count from here."""
    settings: tuple[SettingName, ...] = tuple(SETTINGS)  # pyright: ignore[reportAssignmentType]
    """What to train now; the report shows whatever is finished."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.settings:
            raise PGPOValueError(f"settings must name at least one of {', '.join(SETTINGS)}")
        if self.donors < 1:
            raise PGPOValueError(f"donors must be at least 1, got {self.donors}")
        if self.first_seed - 4 < self.first_donor + self.donors and (
            self.first_donor < self.first_seed + self.seeds + 4
        ):
            raise PGPOValueError(
                "first_donor must lie more than 4 seeds away from the seeds of the sweep, "
                f"{self.first_seed} to {self.first_seed + self.seeds - 1}, got {self.first_donor}"
            )


_EVALUATION = {"every": 5, "questions": 64, "samples": 2}
PRESETS = {
    "smoke": Config(
        preset="smoke",
        seeds=2,
        # None of the seeds that a verdict is made of.
        first_seed=0,
        first_donor=8,
        donors=1,
        settings=("fast",),
        training=TRAINING["smoke"],
    ),
    "cpu": Config(training=changed(TRAINING["cpu"], steps=60, evaluation=_EVALUATION)),
    "gpu": Config(
        preset="gpu",
        seeds=12,
        planned=12,
        donors=4,
        settings=("live", "live_long", "healthy"),
        training=changed(TRAINING["gpu"], steps=60),
    ),
}


def arms(config: Config) -> list[Arm]:
    """The arms that are asked for, and those that they wait for, called `setting-arm`."""
    made = [arm for name in config.settings for arm in _arms_in(config, name)]
    return asked_for(made, config.arms, config.first_seed)


def arms_of(setting: str) -> tuple[str, ...]:
    """The names of a setting's arms."""
    return ARMS if setting == PRIMARY else CORE


def _arms_in(config: Config, name: SettingName) -> list[Arm]:
    """All arms in one setting."""
    setting = SETTINGS[name]

    def full(arm: str) -> str:
        return f"{name}-{arm}"

    def base(seed: int) -> ControlledConfig:
        return placed(config.training, setting, seed)

    def plain(arm: str, **changes: object) -> Arm:
        return Arm(full(arm), lambda seed, finished: changed(base(seed), **changes))

    def braked(arm: str, **information: object) -> Arm:
        return Arm(full(arm), lambda seed, finished: config.with_signal(base(seed), **information))

    def scheduled(
        arm: str, of: str, schedule: Schedule, runs: Callable[[int], Sequence[int]]
    ) -> Arm:
        """SDPO with a multiplier per step that is made of finished runs of another arm."""

        def build(seed: int, finished: Finished) -> ControlledConfig:
            plan = base(seed)
            rho = schedule([finished(full(of), other) for other in runs(seed)], plan.steps)
            return config.with_control(plan, replay=as_signal(rho, config.alpha))

        return Arm(full(arm), build, lambda seed: [(full(of), other) for other in runs(seed)])

    def own(seed: int) -> list[int]:
        return [seed]

    donors = range(config.first_donor, config.first_donor + config.donors)
    every = {
        "sdpo": plain("sdpo"),
        "brake": braked("brake"),
        "constant": scheduled("constant", "brake", _constant, own),
        "other": scheduled("other", "brake", _mean, lambda seed: [neighbour(seed)]),
        "fitted": scheduled("fitted", "brake", _mean, lambda seed: donors),
        "stop": scheduled("stop", "sdpo", _stopped, own),
        "cosine": scheduled("cosine", "brake", _cosine, own),
        "oracle": scheduled("oracle", "sdpo", _best, own),
        "pgpo": braked("pgpo", alpha=config.published_alpha, rho_max=2.0),
        "clip": plain("clip", optimizer={"clip_norm": config.clip}),
        "trust_region": plain("trust_region", teacher={"kind": "trust_region"}),
        "weak": braked("weak", alpha=config.weak_alpha),
        "steep": braked("steep", alpha=config.steep_alpha),
        "mean": braked("mean", decay=config.decay),
        "delayed": braked("delayed", delay=1),
        "floor": braked("floor", rho_min=config.least),
    }
    return [every[arm] for arm in arms_of(name)]


def _mean(runs: list[RunRecord], steps: int) -> np.ndarray:
    return np.mean([taken(run, steps) for run in runs], axis=0)


def _constant(runs: list[RunRecord], steps: int) -> np.ndarray:
    return np.full(steps, _mean(runs, steps).mean())


def _cosine(runs: list[RunRecord], steps: int) -> np.ndarray:
    return cosine(float(_mean(runs, steps).sum()), steps)


def _stopped(runs: list[RunRecord], steps: int) -> np.ndarray:
    return until(before_negative(runs[0], steps), steps)


def _best(runs: list[RunRecord], steps: int) -> np.ndarray:
    return until(best_step(runs[0]), steps)
