"""Settings of the multiplier by name."""

import dataclasses
from typing import Any

from pgpo_jax._brake import BRAKE_ALPHA
from pgpo_jax.training.config._rules import require
from pgpo_jax.training.config._train_config import WITHOUT_INFORMATION, TrainConfig

INFORMATION_PRESETS: dict[str, dict[str, Any]] = {
    "brake": {"alpha": BRAKE_ALPHA, "rho_max": 1.0, "budget": None},
    "budget": {"alpha": 0.0, "rho_max": 1.0, "budget": 0.1},
}
"""Fields of the section `information` by preset name; other fields do not change. `brake` is the
multiplier of `pgpo_jax.brake`, `budget` that of `pgpo_jax.scale_by_information_budget`. Both are
experimental.

Added in version 0.2.0.
"""


def check_multiplied(objective: str, name: str) -> None:
    """Refuse a preset of the multiplier for an objective without a multiplier.

    Raises:
        ValueError: the objective is `grpo`, `sft` or `rltf`, which measure no information.
    """
    require(
        objective not in WITHOUT_INFORMATION,
        f"objective must have a multiplier with information-preset {name!r}",
        objective,
    )


def with_information(config: TrainConfig, name: str) -> TrainConfig:
    """A configuration with another multiplier.

    Args:
        config: configuration with all other settings.
        name: name in `INFORMATION_PRESETS`.

    Raises:
        ValueError: an unknown name; an objective without a multiplier; settings of `config` that
            contradict the multiplier.

    >>> from pgpo_jax.training import PRESETS
    >>> braked = with_information(PRESETS["tiny"], "brake").information
    >>> braked.alpha, braked.rho_max
    (30.0, 1.0)

    Added in version 0.2.0.
    """
    _check_name(name)
    check_multiplied(config.objective, name)
    return _with_section(config, name)


def before_flags(config: TrainConfig, name: str, objective: str | None) -> TrainConfig:
    """The same for a configuration whose objective a flag will replace.

    Args:
        config: of the preset, or of the run.
        name: name in `INFORMATION_PRESETS`.
        objective: of the flag, or None: that of `config` stays.

    Raises:
        ValueError: as `with_information`, of the objective that the run will have.
    """
    _check_name(name)
    check_multiplied(objective or config.objective, name)
    return _with_section(config, name)


def _with_section(config: TrainConfig, name: str) -> TrainConfig:
    signal = dataclasses.replace(config.information, **INFORMATION_PRESETS[name])
    return dataclasses.replace(config, information=signal)


def _check_name(name: str) -> None:
    require(
        name in INFORMATION_PRESETS,
        f"information-preset must be one of {', '.join(INFORMATION_PRESETS)}",
        name,
    )
