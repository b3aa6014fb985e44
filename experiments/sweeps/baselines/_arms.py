"""SDPO, its rivals, and the variants of the signal with their controls."""

from dataclasses import dataclass

from experiments.sweeps._controlled_config import ControlledConfig
from experiments.sweeps._dose import DoseConfig, dose_presets
from experiments.sweeps._settings import changed
from experiments.sweeps._sweep import Arm, Finished

MULTIPLIERS = ("pgpo", "adaptive", "outcome", "contrast", "failures")
PAIRS = (
    *((name, "sdpo") for name in ("grpo", "warmup", "plateau", "token", "sequence", *MULTIPLIERS)),
    *((name, f"{name}_matched") for name in MULTIPLIERS),
)


@dataclass(frozen=True, kw_only=True)
class Config(DoseConfig):
    """SDPO, its rivals, and the variants of the signal with their controls."""

    target_rho: float = 1.6
    """Of the adaptive alpha."""


PRESETS = dose_presets(Config)


def arms(config: Config) -> list[Arm]:
    """Sixteen arms; the controls wait for what they are matched to."""

    def plain(name: str, **changes: object) -> Arm:
        return Arm(name, lambda seed, finished: config.sdpo(seed, **changes))

    def modulated(name: str, *, modulation: str = "none", **information: object) -> Arm:
        def build(seed: int, finished: Finished) -> ControlledConfig:
            made = config.with_signal(config.sdpo(seed), **information)
            return changed(made, loss={"modulation": modulation})

        return Arm(name, build)

    def failures(seed: int, finished: Finished) -> ControlledConfig:
        return config.with_control(config.sdpo(seed), rows="failures")

    warmup = min(2 * config.training.optimizer.warmup_steps, config.training.steps - 1)
    return [
        plain("sdpo"),
        plain("grpo", objective="grpo"),
        plain("warmup", optimizer={"warmup_steps": warmup, "schedule": "cosine"}),
        plain("plateau", optimizer={"plateau": True, "plateau_patience": 5}),
        modulated("pgpo"),
        modulated("token", modulation="token"),
        modulated("sequence", modulation="sequence"),
        modulated("adaptive", target_rho=config.target_rho),
        modulated("outcome", estimator="outcome"),
        modulated("contrast", estimator="outcome_contrast"),
        Arm("failures", failures),
        *(config.matched(f"{name}_matched", name, config.sdpo) for name in MULTIPLIERS),
    ]
