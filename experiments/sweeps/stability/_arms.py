"""A grid of settings with SDPO alone, or all arms in one of them."""

from dataclasses import dataclass
from typing import Literal

from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._dose import DoseConfig
from experiments.sweeps._settings import TRAINING, changed
from experiments.sweeps._sweep import Arm

PAIRS = (
    ("pgpo", "sdpo"),
    ("pgpo", "matched"),
    ("matched", "sdpo"),
    ("floor", "pgpo"),
    ("flipped", "sdpo"),
    ("flipped", "flipped_matched"),
    ("flipped_matched", "sdpo"),
)


@dataclass(frozen=True)
class Setting:
    """A place in the grid."""

    learning_rate: float = 1.5e-4
    teacher: Literal["ema", "live", "frozen", "trust_region"] = "ema"
    misleading: float = 0.0

    @property
    def name(self) -> str:
        """As in folders and tables."""
        return f"{self.learning_rate:.2g}-{self.teacher}-{self.misleading:g}"


@dataclass(frozen=True, kw_only=True)
class Config(DoseConfig):
    """Screens for a setting that collapses, or runs all arms in one."""

    part: Literal["screen", "arms"] = "screen"
    learning_rates: tuple[float, ...] = (1.5e-3, 5e-3)
    """Of the screen."""
    teachers: tuple[Literal["ema", "live", "frozen", "trust_region"], ...] = (
        "ema",
        "live",
        "frozen",
        "trust_region",
    )
    """Of the screen."""
    misleading: tuple[float, ...] = (0.0, 0.6)
    """Of the screen: chance of a shown solution to be a wrong one."""
    setting: Setting = Setting()
    """Of the arms."""
    margin: float = 0.03
    """The smallest difference in accuracy that matters."""


PRESETS = {
    "smoke": Config(
        preset="smoke",
        seeds=2,
        learning_rates=(5e-3,),
        teachers=("ema", "live"),
        misleading=(0.0,),
        training=TRAINING["smoke"],
    ),
    "cpu": Config(
        seeds=2,
        training=changed(
            TRAINING["cpu"], steps=40, evaluation={"every": 5, "questions": 64, "samples": 2}
        ),
    ),
    "gpu": Config(
        preset="gpu",
        seeds=3,
        learning_rates=(1e-5, 5e-5, 2e-4),
        training=changed(TRAINING["gpu"], steps=120),
    ),
}


def arms(config: Config) -> list[Arm]:
    """The grid of the screen, or the six arms in the setting."""
    if config.part == "screen":
        grid = [
            Setting(rate, teacher, share)
            for rate in config.learning_rates
            for teacher in config.teachers
            for share in config.misleading
        ]
        return [_screened(config, place) for place in grid]

    def base(seed: int) -> ControlledConfig:
        return _sdpo(config, config.setting, seed)

    def measured(name: str, **information: object) -> Arm:
        return Arm(name, lambda seed, finished: config.with_signal(base(seed), **information))

    return [
        Arm("sdpo", lambda seed, finished: base(seed)),
        measured("pgpo"),
        config.matched("matched", "pgpo", base),
        measured("floor", rho_min=1.0),
        Arm("flipped", lambda seed, finished: config.with_control(base(seed), flip=True)),
        config.matched("flipped_matched", "flipped", base),
    ]


def _screened(config: Config, place: Setting) -> Arm:
    return Arm(place.name, lambda seed, finished: _sdpo(config, place, seed))


def _sdpo(config: Config, place: Setting, seed: int) -> ControlledConfig:
    return config.sdpo(
        seed,
        optimizer={"learning_rate": place.learning_rate},
        teacher={"kind": place.teacher},
        control={"misleading": place.misleading},
    )
