"""Applies an update, or skips it, without a second copy of the weights."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from pgpo_jax import ScaleByInformationBudgetState, ScaleByInformationState

_State = TypeVar("_State")


def applied_or_skipped(
    update: Callable[[Any, Any, Any], tuple[Any, Any]],
    grads: Any,
    params: Any,
    opt_state: Any,
    applies: Bool[Array, ""],
) -> tuple[Any, Any, Float[Array, ""]]:
    """Weights and optimizer state after a step, and the norm of the update that was applied.

    This is a loop of at most one turn. XLA writes its results over its arguments: the weights over
    the weights, and the updates over the gradients. With a `jnp.where` over everything, or a
    `jax.lax.cond`, XLA for CPU copies the donated arrays first.

    Args:
        update: from gradients, optimizer state and weights to updates and the next optimizer state,
            as `update` of optax.
        grads: gradients.
        params: weights before the step.
        opt_state: optimizer state before the step.
        applies: whether the step changes anything. The norm is 0 if it does not.
    """

    def turn(carry: Any) -> Any:
        _, (grads, params, opt_state) = carry
        updates, opt_state = update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        # Only the norm is taken of them.
        updates = jax.tree.map(lambda new, old: new.astype(old.dtype), updates, grads)
        return jnp.zeros_like(applies), (updates, params, opt_state)

    start = (applies, (grads, params, opt_state))
    _, (updates, params, opt_state) = jax.lax.while_loop(lambda carry: carry[0], turn, start)
    return params, opt_state, jnp.where(applies, optax.tree.norm(updates), 0.0)


def multiplier_state(opt_state: Any) -> ScaleByInformationState | None:
    """The state of the last `scale_by_information` in an optimizer, or `None` without one."""
    return _last(opt_state, ScaleByInformationState)


def budget_state(opt_state: Any) -> ScaleByInformationBudgetState | None:
    """The state of the last `scale_by_information_budget`, or `None` without one."""
    return _last(opt_state, ScaleByInformationBudgetState)


def _last(opt_state: Any, kind: type[_State]) -> _State | None:
    def found(node: Any) -> bool:
        return isinstance(node, kind)

    states = [node for node in jax.tree.leaves(opt_state, is_leaf=found) if found(node)]
    return states[-1] if states else None
