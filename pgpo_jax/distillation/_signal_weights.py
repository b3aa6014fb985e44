"""Bounded weights of tokens and sequences, from signals other than the information."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._multiplier import check_number
from pgpo_jax._precision import at_least_float32


def position_weights(
    fraction: Float[Array, "*batch"], *, least: float | int = 0.25
) -> Float[Array, "*batch"]:
    r"""A smaller weight at the beginning of a response (PW-OPSD).

    $$w = l + (1 - l)\, \sigma((f - 0.3) / 0.1)$$

    Args:
        fraction: share f of the response before the middle of the token: (t - .5) / length, with t
            counted from 1.
        least: smallest weight l, in [0, 1]. The authors use .25.

    Returns:
        A weight in [least, 1] per token, at least float32; no gradient.

    Raises:
        ValueError: `least` outside [0, 1].

    References:
        PW-OPSD, https://arxiv.org/abs/2605.21606; code of github.com/SaFo-Lab/PW-OPSD at 35303e0.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> weights = pgpo.distillation.position_weights(jnp.array([0.125, 0.375, 0.625, 0.875]))
    >>> [round(float(w), 4) for w in weights]
    [0.361, 0.7594, 0.972, 0.9976]

    Added in version 0.2.0.
    """
    _check_least(least)
    fraction = _fixed(fraction)
    return least + (1 - least) * jax.nn.sigmoid((fraction - 0.3) / 0.1)


def certainty_weights(
    teacher_entropy: Float[Array, "*batch"], *, least: float | int = 0.25
) -> Float[Array, "*batch"]:
    r"""A smaller weight where the teacher is uncertain, with a lower bound.

    $$w = l + (1 - l)\, e^{-H(q)}$$

    Args:
        teacher_entropy: entropy H(q) of each token, nats.
        least: smallest weight l, in [0, 1]. With 0 this is `entropy_weights` as a function of the
            entropy, that is SRPO's weight without its mean.

    Returns:
        A weight in [least, 1] per token, at least float32; no gradient.

    Raises:
        ValueError: `least` outside [0, 1].

    References:
        The idea is that of EGRSD, https://arxiv.org/abs/2605.13255, whose gate falls with H(q) to a
        lower bound above 0. We did not have its formula; this one is ours.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> pgpo.distillation.certainty_weights(jnp.array([0.0, jnp.log(2), jnp.inf])).tolist()
    [1.0, 0.625, 0.25]

    Added in version 0.2.0.
    """
    _check_least(least)
    # Rounding may take an entropy a little below 0.
    entropy = jnp.maximum(_fixed(teacher_entropy), 0.0)
    return least + (1 - least) * jnp.exp(-entropy)


def pass_rate_weights(rates: Float[Array, " N"], *, most: float | int = 2.0) -> Float[Array, " N"]:
    r"""A larger weight for questions that are answered right about half of the time (SC-SDPO).

    $$w_i = \min\Big(M,\ \frac{\sqrt{p_i (1 - p_i)}}{\frac1N \sum_j \sqrt{p_j (1 - p_j)}}\Big)$$

    Args:
        rates: share p of right responses of every question of the batch. It may also be given for
            every response, which has the same mean.
        most: largest weight M, at least 1. The source has no such bound.

    Returns:
        A weight in [0, most] each, at least float32; no gradient. All are 0 if every rate is 0 or
        1.

    Raises:
        ValueError: `most` below 1, or not finite.

    References:
        SC-SDPO, https://arxiv.org/abs/2605.27765 (abstract).

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> weights = pgpo.distillation.pass_rate_weights(jnp.array([0.125, 0.5, 0.875]))
    >>> [round(float(w), 4) for w in weights]
    [0.8542, 1.2915, 0.8542]

    Added in version 0.2.0.
    """
    check_number("most", most, "a finite number >= 1", lambda x: (x >= 1) & jnp.isfinite(x))
    rates = _fixed(rates)
    spread = jnp.sqrt(rates * (1 - rates))
    mean = spread.mean()
    return jnp.minimum(spread / jnp.where(mean > 0, mean, 1.0), most)


def _fixed(values: Array) -> Array:
    """The array without a gradient, in at least float32."""
    return jax.lax.stop_gradient(values).astype(at_least_float32(values.dtype))


def _check_least(least: object) -> None:
    check_number("least", least, "a number in [0, 1]", lambda x: (x >= 0) & (x <= 1))
