"""Weights of the loss by the information of each token or of each sequence."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, ScalarLike

from pgpo_jax._multiplier import check_hyperparameters, multiplier
from pgpo_jax._precision import at_least_float32
from pgpo_jax._reduce import Mask, check_choice


def check_modulation(level: str, alpha: object, rho_max: object, rho_min: object) -> None:
    """Refuse an unknown level, or a multiplier that is not defined."""
    check_choice("modulation", level, ("none", "token", "sequence"))
    check_hyperparameters(alpha, rho_max, rho_min)


def modulation_weights(
    gain: Float[Array, "B T"],
    response_mask: Mask,
    *,
    level: str = "token",
    alpha: ScalarLike = 1.0,
    rho_max: ScalarLike = 2.0,
    rho_min: ScalarLike = 0.0,
) -> Float[Array, "B T"]:
    r"""Weights rho(I) for a loss per token, instead of one multiplier for the whole step.

    At level `"token"` each token has the weight of its own information, rho(I_t). At level
    `"sequence"` all tokens of a sequence have the weight rho(I_i), where I_i is the mean over its
    response tokens. The paper names both as future work. Weights change the direction of the
    gradient; the multiplier of the step changes its length only. Adam divides out a common factor
    of the weights, so with Adam only their differences matter.

    Args:
        gain: information of each token in nats, for example `HeadLoss.gain`, any float dtype.
        response_mask: response tokens (nonzero: counts). Values off the mask are ignored.
        level: `"token"`, `"sequence"`, or `"none"` for weights of one.
        alpha: sensitivity per nat, see `pgpo_jax.multiplier`.
        rho_max: largest weight, >= 1.
        rho_min: smallest weight, in [0, 1].

    Returns:
        A weight per token, float32 (float64 for float64 gains), 0 off the mask; no gradient.

    Raises:
        ValueError: unknown level, or a hyperparameter outside its range.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> gain, mask = jnp.array([[0.0, 5.0, 9.0]]), jnp.array([[1, 1, 0]])
    >>> pgpo.distillation.modulation_weights(gain, mask).tolist()
    [[1.0, 2.0, 0.0]]
    >>> pgpo.distillation.modulation_weights(gain, mask, level="sequence").tolist()
    [[2.0, 2.0, 0.0]]
    """
    check_modulation(level, alpha, rho_max, rho_min)
    valid = response_mask.astype(bool)
    gain = jax.lax.stop_gradient(gain).astype(at_least_float32(gain.dtype))
    gain = jnp.where(valid, gain, 0.0)
    if level == "none":
        return valid.astype(gain.dtype)
    if level == "sequence":
        tokens = jnp.maximum(valid.sum(axis=1, keepdims=True, dtype=jnp.int32), 1)
        gain = jnp.sum(gain, axis=1, keepdims=True) / tokens.astype(gain.dtype)
    return jnp.where(valid, multiplier(gain, alpha, rho_max, rho_min), 0.0)
