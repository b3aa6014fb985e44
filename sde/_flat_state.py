"""Flattens a pytree to one vector that begins with theta, for the engines."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from pgpo_jax.errors import PGPOTypeError, PGPOValueError


class FlatState(NamedTuple):
    """The layout of a pytree of arrays in one vector of floats.

    Attributes:
        treedef: structure of the pytree.
        leaves: shape and dtype of each leaf.
        order: index in the raveled leaves of each coordinate. The entries of theta come first.
        owner: name of the chain, for messages.
    """

    treedef: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    order: tuple[int, ...]
    owner: str

    def flatten(self, state: PyTree) -> Float[Array, " m"]:
        """The vector of a state.

        Raises:
            ValueError: the state has another structure, shape or dtype than the first one.
        """
        leaves, treedef = jax.tree.flatten(state)
        if treedef != self.treedef:
            raise PGPOValueError(
                f"{self.owner} must return the structure of its first state, {self.treedef}, "
                f"got {treedef}"
            )
        parts = []
        for place, (leaf, known) in enumerate(zip(leaves, self.leaves, strict=True)):
            leaf = jnp.asarray(leaf)
            if (leaf.shape, leaf.dtype) != (known.shape, known.dtype):
                raise PGPOValueError(
                    f"{self.owner} must return shapes and dtypes of its first state: leaf {place} "
                    f"of {self.treedef} is {known.dtype}{known.shape}, got "
                    f"{leaf.dtype}{leaf.shape}"
                )
            parts.append(jnp.ravel(leaf).astype(float))
        return jnp.concatenate(parts)[np.array(self.order)]

    def unflatten(self, vector: Float[Array, " m"]) -> PyTree:
        """The state of a vector; whole numbers are rounded back."""
        raw = vector[np.argsort(self.order)]
        sizes = [int(np.prod(leaf.shape)) for leaf in self.leaves]
        leaves = []
        for part, known in zip(jnp.split(raw, np.cumsum(sizes)[:-1]), self.leaves, strict=True):
            whole = not jnp.issubdtype(known.dtype, jnp.floating)
            part = jnp.round(part) if whole else part
            leaves.append(part.reshape(known.shape).astype(known.dtype))
        return jax.tree.unflatten(self.treedef, leaves)


def flat_state(
    first: PyTree, theta: Callable[[Any], Array], dim: int, owner: str
) -> tuple[FlatState, Float[Array, " m"]]:
    """The layout of a chain's first state, and its vector.

    Args:
        first: the state, a pytree of numbers.
        theta: state to theta `[dim]`; its entries must be entries of the state.
        dim: length of theta.
        owner: the chain, for messages.

    Raises:
        TypeError: a leaf is not a real number or an array of them.
        ValueError: `theta` returns another shape, or values that are computed from the state.
    """
    leaves, treedef = jax.tree.flatten(first)
    if not leaves:
        raise PGPOValueError(f"a state of {owner} must hold at least one array, got {first!r}")
    arrays = [_as_array(leaf, owner) for leaf in leaves]
    sizes = [array.size for array in arrays]
    # theta of a state with different entries shows which entries it has.
    marks = np.arange(1.0, sum(sizes) + 1.0)
    found = []
    # The second state is negative and not whole, because abs, maximum and round would pass
    # otherwise.
    for marked in (marks, -2.0 * marks[::-1] - 0.5):
        parts = np.split(marked, np.cumsum(sizes)[:-1])
        with jax.ensure_compile_time_eval():
            shaped = [
                jnp.asarray(_of_kind(part.reshape(array.shape), array), array.dtype)
                for part, array in zip(parts, arrays, strict=True)
            ]
            try:
                read = theta(jax.tree.unflatten(treedef, shaped))
            except (KeyError, IndexError, TypeError, AttributeError) as error:
                raise PGPOValueError(
                    f"theta must be read from a state of {owner} by `theta=`, by default its first "
                    f"item; of {treedef} that fails with {type(error).__name__}: {error}"
                ) from error
            seen = np.asarray(read, dtype=float)
        if seen.shape != (dim,):
            raise PGPOValueError(
                f"theta of a state of {owner} must have the shape {(dim,)}, got {seen.shape}"
            )
        found.append([np.flatnonzero(marked == value) for value in seen])
    places = [tuple(int(at[0]) if len(at) else -1 for at in one) for one in found]
    if places[0] != places[1] or -1 in places[0] or len(set(places[0])) != dim:
        raise PGPOValueError(
            f"theta of a state of {owner} must be entries of the state, each once, without "
            "arithmetic: store theta as a leaf of the state"
        )
    order = (*places[0], *(i for i in range(sum(sizes)) if i not in places[0]))
    known = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays)
    layout = FlatState(treedef, known, order, owner)
    return layout, layout.flatten(jax.tree.unflatten(treedef, arrays))


def _of_kind(marks: np.ndarray, like: Array) -> np.ndarray:
    """Marks that fit the dtype of an array; for counts and flags, whole numbers of at least 0."""
    if jnp.issubdtype(like.dtype, jnp.floating):
        return marks
    return np.asarray(np.trunc(np.abs(marks)))


def _as_array(leaf: Any, owner: str) -> Array:
    try:
        array = jnp.asarray(leaf)
    except TypeError as error:
        raise PGPOTypeError(
            f"a state of {owner} must be a pytree of real numbers, got a leaf that is a "
            f"{type(leaf).__name__}"
        ) from error
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool) or jnp.iscomplexobj(
        array
    ):
        raise PGPOTypeError(
            f"a state of {owner} must be a pytree of real numbers, got a leaf of dtype "
            f"{array.dtype}"
        )
    return array
