"""The multiplier as a brake: it only shortens steps, and stops where the teacher is not surer."""

import optax
from jaxtyping import ScalarLike

from pgpo_jax._transform import pgpo

BRAKE_ALPHA = 30.0
"""Per nat: of the pilot that `brake` tells of."""


def brake(
    optimizer: optax.GradientTransformation,
    alpha: ScalarLike | optax.Schedule = BRAKE_ALPHA,
    *,
    rho_min: ScalarLike = 0.0,
    decay: ScalarLike = 0.0,
    delay: ScalarLike = 0,
    signal_bound: ScalarLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Any optax optimizer with a multiplier that only shortens its steps. **Experimental.**

    $$\rho(I) = \max\{\rho_{\min}, \min(e^{\alpha I}, 1)\}$$

    Eq. 9 of arXiv 2606.03620 with rho_max = 1 and a large alpha. A step is taken in full while the
    teacher is surer than the student (I >= 0), and is half as long at I = -log(2) / alpha nats,
    which is -0.023 at alpha = 30. With rho_min = 0 a run whose I stays below that hardly moves any
    more, so it may stop short of what it could learn.

    Evidence: a pilot only, see `experiments.brake`, whose rules are fixed and which has not been
    run. With a live teacher at a learning rate at which plain SDPO fell to an accuracy of 0 in six
    of six runs of the shipped model (0.7 M parameters), runs with alpha = 30 ended at .75 to .91. A
    constant multiplier of the same mean fell in five of six. With an EMA teacher in a run where
    nothing was wrong, rho was .99 to 1 and no evaluation differed.

    Limits: I measures how sure the teacher is, not whether it is right. With 60 % of the shown
    solutions wrong, and with an EMA teacher at a learning rate of 5e-3, the runs fell while I was
    positive, and the brake did nothing. Another run's multipliers, in order, did as well in two
    runs, so a schedule may be all that is needed. One model and one task were tried.

    Args:
        optimizer: a complete optimizer, with its learning rate.
        alpha: sensitivity per nat, >= 0, or an optax schedule of the update count. A signal
            that is a sum over tokens instead of a mean needs a smaller one.
        rho_min: smallest multiplier, in [0, 1]; above 0 no run stands still.
        decay: in [0, 1), of the mean of the signal; one noisy signal then brakes less. See
            `scale_by_information`, as for the further arguments.
        delay: 1 to use the signal of the step before.
        signal_bound: largest size of a signal that is believed, in nats. One that is not believed,
            or not finite, gives rho = 1: it does not brake, and is counted.

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
