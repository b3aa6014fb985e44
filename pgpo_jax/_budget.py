"""Steps that move the policy by no more than a share of the information."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, ScalarLike

from pgpo_jax._multiplier import check_number, refuse_rounded
from pgpo_jax._transform import (
    ScaleByInformationState,
    as_signal,
    count_if,
    initial_state,
    scaled,
)
from pgpo_jax.errors import PGPOTypeError, PGPOValueError


class ScaleByInformationBudgetState(NamedTuple):
    """What `scale_by_information_budget` remembers.

    Attributes:
        movement: KL divergence of the last full update, in nats.
        inner: the last signal and multiplier, and the counters. `clipped_count` counts the updates
            that were within the budget, whose multiplier is 1. `average` and `weight` stay 0.

    >>> import jax.numpy as jnp, pgpo_jax
    >>> state = pgpo_jax.scale_by_information_budget(0.1).init(jnp.ones(2))
    >>> float(state.movement), float(state.inner.rho)
    (0.0, 1.0)

    Added in version 0.2.0.
    """

    movement: Float[Array, ""]
    inner: ScaleByInformationState


def scale_by_information_budget(
    budget: ScalarLike = 0.1, *, rho_min: ScalarLike = 0.0
) -> optax.GradientTransformationExtraArgs:
    r"""Shorten an update that moves the policy more than its information pays for.
    **Experimental.**

    $$\rho_k = \max\Bigl\{\rho_{\min}, \min\Bigl(1,
      \sqrt{\tfrac{c\,\max(I_k, 0)}{K_k}}\Bigr)\Bigr\},\qquad
      K_k = \mathrm{KL}(\pi_{\theta_k} \,\|\, \pi_{\theta_k + u_k})$$

    K is the divergence per token of the policy after the full update from the policy before, in
    nats. It is quadratic in the length of a short update. So the shortened update moves the policy
    by about c I nats. This is not in the paper. It is a trust region whose radius is the
    information of the step.

    Evidence: `experiments.budget`, one setting of the shipped model (0.7 M parameters) in which all
    16 runs of SDPO collapsed. No run with c = .1 did. The same trust region with a fixed radius had
    a smaller area under the accuracy, by .287 [.225, .347]. A constant multiplier of the same mean
    collapsed once, and a trust-region teacher did as well or better.

    Put it last in the chain, as `pgpo` does. A signal or a movement that is not finite gives
    `rho_min` and is counted.

    Args:
        budget: c, nats of movement per nat of information, positive.
        rho_min: smallest multiplier, in [0, 1]. With 0 nothing moves while I <= 0.

    Returns:
        A transform whose `update` requires the keywords `information`, a scalar in nats, and
        `movement`, a function from updates to K in nats. The trainer of `pgpo_jax.training` passes
        both.

    Raises:
        ValueError: a hyperparameter outside its range (tracers are not checked), or a signal or a
            movement that is not a scalar.
        TypeError: `update` without `information` or `movement`; a hyperparameter of 16 bits.

    >>> import jax.numpy as jnp, optax, pgpo_jax
    >>> tx = optax.chain(optax.sgd(1.0), pgpo_jax.scale_by_information_budget(0.1))
    >>> params = jnp.ones(2)
    >>> state = tx.init(params)
    >>> half_square = lambda u: 0.5 * (u**2).sum()  # of a Gaussian policy with variance 1
    >>> for information in (100.0, 2.5, -1.0):
    ...     updates, state = tx.update(
    ...         params, state, params, information=information, movement=half_square
    ...     )
    ...     print(round(float(half_square(updates)), 3))
    1.0
    0.25
    0.0

    Added in version 0.2.0.
    """
    refuse_rounded(budget=budget, rho_min=rho_min)
    check_number("budget", budget, "a finite number > 0", lambda x: (x > 0) & (x < math.inf))
    check_number("rho_min", rho_min, "a number in [0, 1]", lambda x: (x >= 0) & (x <= 1))

    def init_fn(params: optax.Params) -> ScaleByInformationBudgetState:
        del params
        return ScaleByInformationBudgetState(jnp.zeros([], jnp.float32), initial_state())

    def update_fn(
        updates: optax.Updates,
        state: ScaleByInformationBudgetState,
        params: optax.Params | None = None,
        *,
        information: ArrayLike | None = None,
        movement: Callable[[Any], ArrayLike] | None = None,
        **extra_args,
    ) -> tuple[optax.Updates, ScaleByInformationBudgetState]:
        del params, extra_args
        signal = as_signal(information)
        if movement is None:
            raise PGPOTypeError(
                "scale_by_information_budget needs the keyword argument `movement`: a function "
                "from updates to the KL divergence in nats of the policy after them from the "
                "policy before. If it was passed, a wrapper drops extra arguments."
            )
        moved = _as_movement(movement(updates))
        least = jnp.asarray(rho_min, jnp.float32)
        allowed = jnp.asarray(budget, jnp.float32) * jnp.maximum(signal, 0.0)
        usable = jnp.isfinite(signal) & jnp.isfinite(moved)
        # Rounding may give a movement below 0.
        within = usable & (moved <= allowed)
        share = jnp.sqrt(allowed / jnp.where(within | ~usable, 1.0, moved))
        rho = jnp.where(within, 1.0, jnp.where(usable, jnp.maximum(share, least), least))
        before = state.inner
        inner = before._replace(
            count=jnp.asarray(optax.safe_increment(before.count)),
            information=signal,
            rho=rho,
            clipped_count=count_if(before.clipped_count, within),
            nonfinite_count=count_if(before.nonfinite_count, ~usable),
        )
        new = ScaleByInformationBudgetState(moved, inner)
        return jax.tree.map(lambda u: scaled(u, rho), updates), new

    # optax types a state as any tree of arrays
    return optax.GradientTransformationExtraArgs(init_fn, update_fn)  # pyright: ignore[reportArgumentType]


def _as_movement(moved: ArrayLike) -> Float[Array, ""]:
    found = jnp.asarray(moved, jnp.float32)
    if found.shape != ():
        raise PGPOValueError(
            f"`movement` must return one scalar for the whole policy, got shape {found.shape}."
        )
    return found
