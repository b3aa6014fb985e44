"""Checks of an optimizer before the first step, without computing anything."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from pgpo_jax import ScaleByInformationBudgetState, ScaleByInformationState
from pgpo_jax.errors import PGPOError, PGPOTypeError, PGPOValueError
from pgpo_jax.models._muon import kernel_paths


def with_extra_arguments(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    """An optimizer whose `update` may be given `information` and `value`.

    `optax.with_extra_args_support` is not enough. `optax.MultiSteps` passes extra arguments on, but
    the type of its `gradient_transformation()` takes none, so optax drops them.

    Args:
        optimizer: any optax transform, or an `optax.MultiSteps`.

    Returns:
        The same transform; one that takes no extra arguments ignores them.

    Raises:
        TypeError: not an optax transform.
    """
    steps = getattr(getattr(optimizer, "update", None), "__self__", None)
    if isinstance(steps, optax.MultiSteps):
        # optax types the state of a transform as any tree of arrays.
        return optax.GradientTransformationExtraArgs(steps.init, steps.update)  # pyright: ignore[reportArgumentType]
    if not isinstance(optimizer, optax.GradientTransformation):
        raise PGPOTypeError(
            f"The optimizer must be an optax.GradientTransformation, got {optimizer!r}."
        )
    return optax.with_extra_args_support(optimizer)


def check_takes_information(optimizer: Any, params: Any) -> bool:
    """Evaluate `init` and one `update` abstractly, as the training step calls them.

    Args:
        optimizer: any optax transform; one without extra arguments is a plain optimizer.
        params: trained parameters, as arrays or `jax.ShapeDtypeStruct`s.

    Returns:
        Whether the optimizer has a multiplier: its state holds a `ScaleByInformationState`.

    Raises:
        TypeError: not an optax transform; `init` or `update` fails; a transform around
            `scale_by_information` drops `information`.
        ValueError: the updates or the new state have another structure, shape or dtype than the
            parameters or the old state.
    """
    extended = with_extra_arguments(optimizer)
    state = _initial_state(extended, params)
    multiplies = bool(_found(state, ScaleByInformationState))
    try:
        updates, new_state = _updated(extended, state, params)
    except PGPOTypeError as error:
        if not multiplies or "`information`" not in str(error):
            raise
        raise PGPOTypeError(
            "The optimizer holds scale_by_information, but `information` does not reach it: a "
            f"transform around it drops extra arguments{_outermost(optimizer)}. Put the "
            "multiplier outside, pgpo_jax.pgpo(wrapper(optimizer)), or let the wrapper be an "
            "optax.GradientTransformationExtraArgs that hands **extra_args on."
        ) from error
    _check_alike("updates", updates, "the parameters", params)
    _check_alike("new state", new_state, "the state before", state)
    return multiplies


def muon_without_kernels(opt_state: Any, params: Any) -> bool:
    """Whether a Muon inside the optimizer leaves every stacked kernel to its Adam.

    `optax.contrib.muon` without dimension numbers does so without a warning, because it
    orthogonalises only leaves with two axes.

    Args:
        opt_state: state of the optimizer, as arrays or shapes.
        params: parameters that it was initialised with.

    Returns:
        True if the state holds a Muon, `params` has kernels or leaves with three axes or more, and
        the Muon's momentum has none of them.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    stacked = {jax.tree_util.keystr(path) for path, leaf in leaves if leaf.ndim >= 3}
    stacked |= kernel_paths(params)
    momenta = [muon.mu for muon in _found(opt_state, optax.contrib.MuonState)]
    held = {
        jax.tree_util.keystr(path)
        for momentum in momenta
        for path, _ in jax.tree_util.tree_leaves_with_path(momentum)
    }
    return bool(momenta and stacked and not stacked & held)


def check_orthogonalises(optimizer: Any, params: Any) -> None:
    """Refuse a Muon that would update all stacked kernels by Adam.

    Args:
        optimizer: any optax transform.
        params: trained parameters, as arrays or shapes.

    Raises:
        TypeError: not an optax transform, or `init` fails.
        ValueError: the case of `muon_without_kernels`. The message names the remedy.
    """
    if muon_without_kernels(_initial_state(with_extra_arguments(optimizer), params), params):
        raise PGPOValueError(
            "optax.contrib.muon must be given dimension numbers here. The kernels are stacked, "
            "[layers, in, out], and without dimension numbers it updates all of them by Adam. "
            "Pass muon_weight_dimension_numbers=pgpo_jax.models.muon_dimension_numbers."
        )


def _initial_state(optimizer: optax.GradientTransformation, params: Any) -> Any:
    try:
        return jax.eval_shape(optimizer.init, params)
    except PGPOError:
        raise
    except Exception as error:
        raise PGPOTypeError(
            "The optimizer's init must take the parameters alone, as optax's do; "
            f"it failed: {error}"
        ) from error


def _updated(
    optimizer: optax.GradientTransformationExtraArgs, state: Any, params: Any
) -> tuple[Any, Any]:
    budget = _found(state, ScaleByInformationBudgetState)
    more = {"movement": lambda updates: jnp.zeros([], jnp.float32)} if budget else {}

    def update(gradient: Any, state: Any, params: Any, signal: Any, loss: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(gradient, state, params, information=signal, value=loss, **more)

    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    try:
        return jax.eval_shape(update, params, state, params, scalar, scalar)
    except PGPOError:
        raise
    except Exception as error:
        raise PGPOTypeError(
            "The optimizer's update must work as update(gradient, state, params, "
            "information=scalar, value=loss), as optax's do, and must ignore extra arguments that "
            f"it does not use; it failed: {error}"
        ) from error


def _outermost(optimizer: Any) -> str:
    if isinstance(optimizer, optax.GradientTransformationExtraArgs):
        return ""
    name = getattr(optimizer.update, "__qualname__", repr(optimizer.update))
    return f" (its outermost update, {name}, takes none)"


def _check_alike(name: str, got: Any, wanted_name: str, wanted: Any) -> None:
    if jax.tree.structure(got) != jax.tree.structure(wanted):
        raise PGPOValueError(
            f"The optimizer's {name} must have the structure of {wanted_name}, "
            f"{jax.tree.structure(wanted)}, got {jax.tree.structure(got)}."
        )
    leaves = jax.tree_util.tree_leaves_with_path(wanted)
    for (path, want), have in zip(leaves, jax.tree.leaves(got), strict=True):
        if (have.shape, have.dtype) != (want.shape, want.dtype):
            raise PGPOValueError(
                f"The optimizer's {name} at {jax.tree_util.keystr(path)} must have the shape and "
                f"dtype of {wanted_name}, {want.shape} {want.dtype}, got {have.shape} {have.dtype}."
            )


def _found(state: Any, kind: type) -> list[Any]:
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kind))
    return [leaf for leaf in leaves if isinstance(leaf, kind)]
