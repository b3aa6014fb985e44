"""The multiplier as a brake: it shortens steps when the teacher is less certain."""

import optax
from jaxtyping import ScalarLike

from pgpo_jax._transform import pgpo

BRAKE_ALPHA = 30.0
"""Per nat; the value of the study that `brake` describes."""


def brake(
    optimizer: optax.GradientTransformation,
    alpha: ScalarLike | optax.Schedule = BRAKE_ALPHA,
    *,
    rho_min: ScalarLike = 0.0,
    decay: ScalarLike = 0.0,
    delay: ScalarLike = 0,
    signal_bound: ScalarLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Scale the updates of any optax optimizer by a multiplier of at most 1. **Experimental.**

    $$\rho(I) = \max\{\rho_{\min}, \min(e^{\alpha I}, 1)\}$$

    This is Eq. 9 of arXiv 2606.03620 with rho_max = 1 and a large alpha. The step keeps its length
    while the teacher is at least as certain as the student (I >= 0). It is half as long at I =
    -log(2) / alpha nats, which is -0.023 at alpha = 30. With rho_min = 0 a run whose I stays below
    that value hardly moves. It may then stop before it has learnt what it could.

    Evidence: three settings of `experiments.brake`, with the shipped model (0.7 M parameters) and
    24 seeds. With a live teacher and a high learning rate SDPO collapsed in 23 runs, the brake in
    2. A constant multiplier of the same mean collapsed in 11. By the rule of the study that is
    undecided. A trust-region teacher did better than the brake. With a stable EMA teacher no run
    collapsed, and the brake cost nothing: the mean accuracies differed by less than .0005.

    Limits: I measures how certain the teacher is, not whether it is right. In two settings runs
    fell while I was positive, so the brake did nothing. In one, 60 % of the shown solutions were
    wrong. In the other, the teacher was an EMA and the learning rate was 5e-3. Where each run
    had its own learning rate, the brake did better than the schedules of other runs, and stopping
    at the first I < 0 did better than the brake. One model and one task were tried.

    Args:
        optimizer: a complete optimizer, with its learning rate.
        alpha: sensitivity per nat, >= 0, or an optax schedule of the update count. If the signal is
            a sum over tokens instead of a mean, use a smaller one.
        rho_min: smallest multiplier, in [0, 1]. With a value above 0 no run stops completely.
        decay: decay of the running mean of the signal, in [0, 1). With a mean, one noisy signal
            shortens the step less. See `scale_by_information`.
        delay: 1 to use the signal of the previous step, else 0.
        signal_bound: largest absolute signal that is used, in nats. A larger one, or one that is
            not finite, gives rho = 1 and is counted.

    Returns:
        `pgpo(optimizer, alpha, rho_max=1.0, ...)`, whose `update` requires the keyword
        `information`, a scalar in nats.

    Raises:
        ValueError: a hyperparameter outside its range (tracers are not checked).
        TypeError: `update` without `information`; a hyperparameter of 16 bits.

    >>> import jax.numpy as jnp, optax, pgpo_jax
    >>> tx = pgpo_jax.brake(optax.sgd(1.0))
    >>> params = jnp.ones(2)
    >>> state = tx.init(params)
    >>> for information in (0.16, 0.0, -0.05):
    ...     updates, state = tx.update(params, state, params, information=information)
    ...     print(round(float(updates[0]), 3))
    -1.0
    -1.0
    -0.223

    Added in version 0.2.0.
    """
    return pgpo(
        optimizer,
        alpha,
        1.0,
        rho_min=rho_min,
        decay=decay,
        delay=delay,
        signal_bound=signal_bound,
    )
