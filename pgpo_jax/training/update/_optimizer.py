"""Makes the optimizer of a run with its multiplier."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import optax
from jaxtyping import ScalarLike

from pgpo_jax import (
    scale_by_information,
    scale_by_information_budget,
    scale_by_information_to_target,
)
from pgpo_jax.training.config import InformationConfig, OptimizerConfig
from pgpo_jax.training.update._named_optimizers import named_optimizer
from pgpo_jax.training.update._optimizer_arguments import Value, parse_arguments

_Config = TypeVar("_Config", OptimizerConfig, InformationConfig)

_MULTIPLIER = ("alpha", "rho_max", "rho_min", "decay")


@dataclass(frozen=True)
class SettingsUpdate:
    """The `update` of `make_optimizer`: its numbers may be arguments of the compiled step.

    Attributes:
        settings: of the optimizer.
        signal: of the multiplier.
        steps: that a falling learning rate ends with.
        numbers: what is taken instead of the settings of the same names: the learning rate of
            AdamW, and the multiplier's alpha per nat, bounds and decay where alpha is fixed.
    """

    settings: OptimizerConfig
    signal: InformationConfig
    steps: int
    numbers: tuple[tuple[str, float], ...]

    @property
    def program(self) -> "SettingsUpdate":
        """The same without its numbers: equal for optimizers whose steps are one program."""
        given = {name for name, _ in self.numbers}
        settings = _with_defaults(self.settings, given)
        signal = _with_defaults(self.signal, given)
        return SettingsUpdate(settings, signal, self.steps, ())

    def transform(
        self, numbers: Mapping[str, Any] | None = None
    ) -> optax.GradientTransformationExtraArgs:
        """The optimizer itself, with its own numbers or with those that are given."""
        given: Mapping[str, Any] = dict(self.numbers) if numbers is None else numbers
        settings, signal = self.settings, self.signal
        plateau = optax.contrib.reduce_on_plateau(
            factor=settings.plateau_factor, patience=settings.plateau_patience
        )
        rho: dict[str, Any] = {name: given.get(name, getattr(signal, name)) for name in _MULTIPLIER}
        rate = given.get("learning_rate", settings.learning_rate)
        if signal.budget is not None:
            modulation = scale_by_information_budget(signal.budget, rho_min=rho["rho_min"])
        elif signal.target_rho is None:
            modulation = scale_by_information(**rho, delay=signal.delay)
        else:
            modulation = scale_by_information_to_target(
                signal.target_rho, **rho, delay=signal.delay
            )
        return optax.chain(
            optax.clip_by_global_norm(settings.clip_norm),
            named_optimizer(
                settings.name, _learning_rate(settings, rate, self.steps), _arguments(settings)
            ),
            *([plateau] if settings.plateau else []),
            modulation,
        )

    def __call__(
        self,
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        numbers: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> tuple[Any, Any]:
        """As the `update` of any transform; `numbers` may hold tracers."""
        return self.transform(numbers).update(updates, state, params, **extra)


@functools.lru_cache(maxsize=64)
def make_optimizer(
    settings: OptimizerConfig,
    signal: InformationConfig,
    *,
    alpha: float | None = None,
    steps: int = 1,
) -> optax.GradientTransformationExtraArgs:
    """Gradient clip, the named optimizer, and last the multiplier, so that no moment sees it.

    The learning rate rises linearly from 0, as in SDPO, so the first update is zero. All other
    scaling of the update comes before the multiplier. Equal settings give the same object. Runs
    that differ only in alpha, rho_max, rho_min, decay, AdamW's learning rate, seed or questions
    share a compiled step. So SDPO and PGPO share one.

    Args:
        settings: settings of the optimizer.
        signal: settings of the multiplier.
        alpha: sensitivity of the multiplier instead of `signal.alpha`, per nat. 0 means no
            multiplier.
        steps: number of steps after which a decreasing learning rate ends.

    Returns:
        A transform whose `update` needs `information` (nats) and, for a plateau, `value`: the loss.

    Raises:
        ValueError: an unknown optimizer or argument.

    >>> import jax.numpy as jnp
    >>> from pgpo_jax.training import InformationConfig, OptimizerConfig
    >>> tx = make_optimizer(OptimizerConfig(), InformationConfig(alpha=1.0), steps=10)
    >>> params = jnp.ones(2)
    >>> updates, _ = tx.update(params, tx.init(params), params, information=0.1, value=1.0)
    >>> (updates == 0).tolist()
    [True, True]
    """
    numbers = {} if settings.name != "adamw" else {"learning_rate": settings.learning_rate}
    if alpha is not None:
        signal = dataclasses.replace(signal, alpha=alpha)
    if signal.target_rho is None:
        numbers |= {name: getattr(signal, name) for name in _MULTIPLIER}
    # As Python floats they are weakly typed, so that parameters of 16 bits stay so.
    floats = tuple((name, float(value)) for name, value in numbers.items())
    # What the signal is measured by is no part of the optimizer.
    own = dataclasses.replace(signal, estimator="entropy", reduction="sequence_mean")
    update = SettingsUpdate(settings, own, steps, floats)
    return optax.GradientTransformationExtraArgs(update.transform().init, update)


def _with_defaults(part: _Config, names: set[str]) -> _Config:
    usual = {field.name: field.default for field in dataclasses.fields(part)}
    return dataclasses.replace(part, **{name: usual[name] for name in names & usual.keys()})


def _arguments(settings: OptimizerConfig) -> dict[str, Value]:
    if settings.name != "adamw":
        return parse_arguments(settings.arguments)
    return {name: getattr(settings, name) for name in ("b1", "b2", "eps", "weight_decay")}


def _learning_rate(
    settings: OptimizerConfig, rate: ScalarLike, steps: int
) -> ScalarLike | optax.Schedule:
    warmup = settings.warmup_steps
    rise = optax.linear_schedule(0.0, rate, warmup) if warmup else None
    if settings.schedule == "constant":
        return rate if rise is None else rise
    fall = optax.cosine_decay_schedule(rate, steps - warmup)
    return fall if rise is None else optax.join_schedules([rise, fall], [warmup])
