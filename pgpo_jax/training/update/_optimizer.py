import functools

import optax

from pgpo_jax import scale_by_information, scale_by_information_to_target
from pgpo_jax.training.config import InformationConfig, OptimizerConfig
from pgpo_jax.training.update._named_optimizers import named_optimizer
from pgpo_jax.training.update._optimizer_arguments import Value, parse_arguments


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
    scaling of the update comes before the multiplier. Equal settings give the same object. So runs
    that differ only in seed or questions share a compiled step.

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
    """
    alpha = signal.alpha if alpha is None else alpha
    plateau = optax.contrib.reduce_on_plateau(
        factor=settings.plateau_factor, patience=settings.plateau_patience
    )
    bounds = {"rho_min": signal.rho_min, "decay": signal.decay, "delay": signal.delay}
    if signal.target_rho is None:
        modulation = scale_by_information(alpha, signal.rho_max, **bounds)
    else:
        modulation = scale_by_information_to_target(
            signal.target_rho, signal.rho_max, alpha=alpha, **bounds
        )
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        named_optimizer(settings.name, _learning_rate(settings, steps), _arguments(settings)),
        *([plateau] if settings.plateau else []),
        modulation,
    )


def _arguments(settings: OptimizerConfig) -> dict[str, Value]:
    if settings.name != "adamw":
        return parse_arguments(settings.arguments)
    return {name: getattr(settings, name) for name in ("b1", "b2", "eps", "weight_decay")}


def _learning_rate(settings: OptimizerConfig, steps: int) -> float | optax.Schedule:
    rate, warmup = settings.learning_rate, settings.warmup_steps
    rise = optax.linear_schedule(0.0, rate, warmup) if warmup else None
    if settings.schedule == "constant":
        return rate if rise is None else rise
    fall = optax.cosine_decay_schedule(rate, steps - warmup)
    return fall if rise is None else optax.join_schedules([rise, fall], [warmup])
