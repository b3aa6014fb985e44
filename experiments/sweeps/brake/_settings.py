"""The settings of the brake's study: teacher, learning rate, misleading solutions, length."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._settings import changed

BLOCK = 4
"""Number of seeds in a block: 4k to 4k + 3. If levels are drawn, each seed of a block has its own
level. A run that replays another run's brake uses that of the next seed of its block."""
_STREAM = 17


@dataclass(frozen=True)
class Setting:
    """One place; a tuple of four is drawn from, a level per seed.

    Attributes:
        rate: the learning rate in multiples of the preset's, 1.5e-4 in `cpu`.
        teacher: its kind.
        misleading: chance of a shown solution to be a wrong one.
        long: four times the steps.
        healthy: SDPO is not expected to collapse here.
    """

    rate: float | tuple[float, ...] = 1.0
    teacher: Literal["ema", "live"] = "live"
    misleading: float | tuple[float, ...] = 0.0
    long: bool = False
    healthy: bool = False

    @property
    def drawn(self) -> bool:
        """Whether the runs of a block differ in their level."""
        return isinstance(self.rate, tuple) or isinstance(self.misleading, tuple)


SETTINGS: dict[str, Setting] = {
    "live": Setting(2.0),
    "live_long": Setting(2.0, long=True),
    "fast": Setting(10.0),
    "misled": Setting(2.0, misleading=0.6),
    "ema_fast": Setting(100 / 3, teacher="ema"),
    "healthy": Setting(teacher="ema", healthy=True),
    "healthy_long": Setting(teacher="ema", long=True, healthy=True),
    "drawn_rate": Setting((4 / 3, 8 / 3, 16 / 3, 32 / 3)),
    "drawn_lies": Setting(2.0, misleading=(0.0, 0.25, 0.5, 0.75)),
}
PRIMARY = "live"
SettingName = Literal[
    "live",
    "live_long",
    "fast",
    "misled",
    "ema_fast",
    "healthy",
    "healthy_long",
    "drawn_rate",
    "drawn_lies",
]


def level(seed: int) -> int:
    """Which of the four levels a seed has; those of a block are all different.

    >>> sorted(level(seed) for seed in range(2000, 2004))
    [0, 1, 2, 3]
    """
    order = np.random.default_rng([seed // BLOCK, _STREAM]).permutation(BLOCK)
    return int(order[seed % BLOCK])


def neighbour(seed: int) -> int:
    """The other run of the block whose brake this one is given; of another level.

    >>> [neighbour(seed) for seed in range(2000, 2004)]
    [2001, 2002, 2003, 2000]
    """
    return seed // BLOCK * BLOCK + (seed + 1) % BLOCK


def placed(training: ControlledConfig, setting: Setting, seed: int) -> ControlledConfig:
    """SDPO at a seed, in a setting.

    Args:
        training: of the preset, whose learning rate and number of steps the setting multiplies.
        setting: where.
        seed: of the run, and of its level where levels are drawn.
    """

    def at(value: float | tuple[float, ...]) -> float:
        return value[level(seed)] if isinstance(value, tuple) else value

    rate = training.optimizer.learning_rate * at(setting.rate)
    longer = 4 if setting.long else 1
    return changed(
        training,
        seed=seed,
        steps=longer * training.steps,
        # To three digits: 1.5e-4 * 100 / 3 is meant to be 5e-3.
        optimizer={"learning_rate": float(f"{rate:.3g}")},
        teacher={"kind": setting.teacher},
        control={"misleading": at(setting.misleading)},
        information={"alpha": 0.0},
        evaluation={"every": longer * training.evaluation.every},
    )
