"""OPSD alone, with a multiplier, and on selected questions."""

from dataclasses import dataclass
from pathlib import Path

from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._dose import DoseConfig
from experiments.sweeps._settings import TRAINING, changed
from experiments.sweeps._sweep import Arm
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.training import with_published

PAIRS = (
    ("pgpo", "alone"),
    ("pgpo", "constant"),
    ("inflow", "alone"),
    ("inflow", "random"),
    ("inflow", "pgpo"),
)
_BY_LOT = f"{Path(__file__).with_name('_by_lot.py')}:by_lot"


@dataclass(frozen=True, kw_only=True)
class Config(DoseConfig):
    """OPSD, five ways."""

    first_seed: int = 4000
    seeds: int = 12
    share: float = 0.2
    """Of the questions of a step, those that train where they are selected."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise PGPOValueError(f"share must be above 0 and at most 1, got {self.share}")

    def opsd(self, seed: int) -> ControlledConfig:
        """OPSD without a multiplier."""
        made = with_published(self.sdpo(seed), "opsd")
        assert isinstance(made, ControlledConfig)
        return made


PRESETS = {
    # None of the seeds that a verdict is made of.
    "smoke": Config(preset="smoke", seeds=2, first_seed=0, training=TRAINING["smoke"]),
    "cpu": Config(),
}


def arms(config: Config) -> list[Arm]:
    """Five arms; the constant waits for what it is matched to."""
    selected = {"weight_share": config.share}
    return [
        Arm("alone", lambda seed, finished: config.opsd(seed)),
        Arm("pgpo", lambda seed, finished: config.with_signal(config.opsd(seed))),
        config.matched("constant", "pgpo", config.opsd),
        Arm(
            "inflow",
            lambda seed, finished: changed(
                config.opsd(seed), loss=selected | {"weight": "belief_shift"}
            ),
        ),
        Arm(
            "random",
            lambda seed, finished: changed(config.opsd(seed), objective=_BY_LOT, loss=selected),
        ),
    ]
