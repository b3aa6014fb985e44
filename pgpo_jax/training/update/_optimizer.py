import optax

from pgpo_jax import scale_by_information, scale_by_information_to_target
from pgpo_jax.training.config._train_config import TrainConfig


def make_optimizer(config: TrainConfig) -> optax.GradientTransformationExtraArgs:
    """Gradient clip, AdamW, and the multiplier last, so that the moments never see it.

    The learning rate rises linearly from 0, as in SDPO: the first update is zero. Whatever else
    scales the update comes before the multiplier.

    Args:
        config: the settings of optimizer and signal, and the steps that a cosine ends with.

    Returns:
        A transform whose `update` needs `information` (nats) and, for a plateau, `value`: the loss.
    """
    settings, signal = config.optimizer, config.information
    plateau = optax.contrib.reduce_on_plateau(
        factor=settings.plateau_factor, patience=settings.plateau_patience
    )
    bounds = {"rho_min": signal.rho_min, "decay": signal.decay, "delay": signal.delay}
    if signal.target_rho is None:
        modulation = scale_by_information(config.alpha, signal.rho_max, **bounds)
    else:
        modulation = scale_by_information_to_target(
            signal.target_rho, signal.rho_max, alpha=config.alpha, **bounds
        )
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(
            _learning_rate(config),
            b1=settings.b1,
            b2=settings.b2,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        ),
        *([plateau] if settings.plateau else []),
        modulation,
    )


def _learning_rate(config: TrainConfig) -> float | optax.Schedule:
    settings = config.optimizer
    rate, warmup = settings.learning_rate, settings.warmup_steps
    rise = optax.linear_schedule(0.0, rate, warmup) if warmup else None
    if settings.schedule == "constant":
        return rate if rise is None else rise
    fall = optax.cosine_decay_schedule(rate, config.steps - warmup)
    return fall if rise is None else optax.join_schedules([rise, fall], [warmup])
