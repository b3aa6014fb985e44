import optax

from pgpo_jax import scale_by_information
from pgpo_jax.training._config import TrainConfig


def make_optimizer(config: TrainConfig) -> optax.GradientTransformationExtraArgs:
    """Gradient clip, AdamW, and the multiplier last, so that the moments never see it.

    The learning rate rises linearly from 0, as in SDPO: the first update is zero.
    """
    settings, signal = config.optimizer, config.information
    rate = settings.learning_rate
    if settings.warmup_steps:
        rate = optax.linear_schedule(0.0, rate, settings.warmup_steps)
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(
            rate,
            b1=settings.b1,
            b2=settings.b2,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        ),
        scale_by_information(
            config.alpha,
            signal.rho_max,
            rho_min=signal.rho_min,
            decay=signal.decay,
            delay=signal.delay,
        ),
    )
