"""An alpha that adapts, so that the mean multiplier holds at a target."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, ScalarLike

from pgpo_jax._multiplier import check_hyperparameters, check_number, refuse_rounded
from pgpo_jax._transform import ScaleByInformationState, scale_by_information

# The sign of the signal is that of its mean over about so many of the last updates.
_SIGN_MEMORY = 10


class ScaleByInformationToTargetState(NamedTuple):
    """What `scale_by_information_to_target` remembers.

    Attributes:
        alpha: sensitivity of the next update, per nat.
        mean_information: running mean of the signals that were used, in nats, from 0. Only its sign
            is used.
        inner: state of `scale_by_information`: the last signal and multiplier, and the counters.
    """

    alpha: Float[Array, ""]
    mean_information: Float[Array, ""]
    inner: ScaleByInformationState


def scale_by_information_to_target(
    target: ScalarLike = 1.5,
    rho_max: ScalarLike = 2.0,
    *,
    alpha: ScalarLike = 1.0,
    gain: ScalarLike = 0.5,
    alpha_max: ScalarLike = 1000.0,
    rho_min: ScalarLike = 0.0,
    decay: ScalarLike = 0.0,
    delay: ScalarLike = 0,
    signal_bound: ScalarLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""`scale_by_information` with an alpha that adapts to a given mean multiplier.

    The size of the information depends on model, task and estimator, and so does a suitable alpha.
    Integral control finds it here:

    $$u_k \leftarrow \rho_k u_k,\quad \rho_k = \rho(I_k; \alpha_k),\qquad
      \log \alpha_{k+1} = \log \alpha_k + \gamma\,(1 - \rho_k / \rho^*)$$

    At rest the mean error is zero, so the mean of rho is the target. (An error of log rho would
    leave the mean above the target, by Jensen's inequality.) Near the target an error shrinks by
    the factor 1 - gain * log(target) per update. The signal then decides only *when* steps are
    long, not their mean length. So the control experiment is a learning rate multiplied by the
    target.

    No alpha >= 0 reaches a target above 1 while the signal is negative on average. Alpha is then
    held. It is also held at an update whose signal is not used or whose multiplier is not finite;
    such an update has rho = 1.

    Args:
        target: mean multiplier, above 1 and below `rho_max`.
        rho_max: largest multiplier.
        alpha: sensitivity of the first update, per nat; positive and at most `alpha_max`.
        gain: gain of the controller, positive.
        alpha_max: upper bound of alpha, per nat.
        rho_min: smallest multiplier, see `scale_by_information`.
        decay: decay of the running mean of the signal, in [0, 1).
        delay: 1 to use the signal of the previous step, else 0.
        signal_bound: largest absolute signal that is used, in nats.

    Returns:
        A transform whose `update` requires the keyword `information`, a scalar in nats; its state
        is a `ScaleByInformationToTargetState`.

    Raises:
        ValueError: a hyperparameter outside its range (tracers are not checked).
        TypeError: `update` without `information`; a hyperparameter of 16 bits.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> tx = pgpo.scale_by_information_to_target(1.5)
    >>> update = jnp.ones(2)
    >>> state = tx.init(update)
    >>> for _ in range(60):
    ...     scaled, state = tx.update(update, state, information=0.03)
    >>> round(float(state.inner.rho), 3), round(float(state.alpha), 1)  # log(1.5) / 0.03 = 13.5
    (1.5, 13.5)
    """
    refuse_rounded(target=target, rho_max=rho_max, alpha=alpha, gain=gain, alpha_max=alpha_max)
    check_hyperparameters(0.0, rho_max, rho_min)
    for name, value in (("alpha", alpha), ("gain", gain), ("alpha_max", alpha_max)):
        check_number(name, value, "a finite number > 0", lambda x: (x > 0) & (x < math.inf))
    bounds = (rho_max, alpha_max)
    below, most = (math.inf if isinstance(x, Tracer) else float(np.asarray(x)) for x in bounds)
    check_number(
        "target", target, "a number above 1 and below rho_max", lambda x: (x > 1) & (x < below)
    )
    check_number("alpha", alpha, f"at most alpha_max = {most}", lambda x: x <= most)

    def scaling(sensitivity: ScalarLike) -> optax.GradientTransformationExtraArgs:
        return scale_by_information(
            sensitivity,
            rho_max,
            rho_min=rho_min,
            decay=decay,
            delay=delay,
            signal_bound=signal_bound,
        )

    start = scaling(alpha)

    def init_fn(params: optax.Params) -> ScaleByInformationToTargetState:
        return ScaleByInformationToTargetState(
            alpha=jnp.asarray(alpha, jnp.float32),
            mean_information=jnp.zeros([], jnp.float32),
            inner=start.init(params),  # pyright: ignore[reportArgumentType]
        )

    def update_fn(
        updates: optax.Updates,
        state: ScaleByInformationToTargetState,
        params: optax.Params | None = None,
        *,
        information: ArrayLike | None = None,
        **extra_args,
    ) -> tuple[optax.Updates, ScaleByInformationToTargetState]:
        del extra_args
        before = state.inner
        updates, inner = scaling(state.alpha).update(
            updates, before, params, information=information
        )
        assert isinstance(inner, ScaleByInformationState)
        usable = inner.nonfinite_count == before.nonfinite_count
        newest = 1 / _SIGN_MEMORY
        mean = jnp.where(
            usable,
            (1 - newest) * state.mean_information + newest * inner.information,
            state.mean_information,
        )
        error = 1 - inner.rho / jnp.asarray(target, jnp.float32)
        moved = jnp.minimum(
            state.alpha * jnp.exp(jnp.asarray(gain, jnp.float32) * error),
            jnp.asarray(alpha_max, jnp.float32),
        )
        return updates, ScaleByInformationToTargetState(
            alpha=jnp.where(usable & (mean > 0), moved, state.alpha),
            mean_information=mean,
            inner=inner,
        )

    # optax types a state as any tree of arrays
    return optax.GradientTransformationExtraArgs(init_fn, update_fn)  # pyright: ignore[reportArgumentType]
