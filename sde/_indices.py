"""Indices beyond the end of an array, which JAX moves to the end without a word."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import checkify

from pgpo_jax.errors import PGPOValueError


def of_package(thing: Any) -> bool:
    """Whether a function or class is of this package, and so not looked at."""
    return (getattr(thing, "__module__", None) or "").startswith("sde.")


def check_indices(function: Callable[..., Any], what: str, *args: Any) -> None:
    """Call a function of the user once, and refuse it if it reads beyond an array.

    Functions of this package are not called.

    Raises:
        ValueError: it does. The message names `what`, the array and the index.
    """
    if of_package(function):
        return
    with jax.enable_x64(True):
        try:
            error, _ = checkify.checkify(function, errors=checkify.index_checks)(*args)
        except NotImplementedError:
            # A primitive that has no such check.
            return
    told = error.get()
    if told:
        raise PGPOValueError(
            f"{what} must read arrays within their length: JAX moves an index beyond the end or "
            "fills it, without an error. If you mean it, write jnp.clip or jnp.where. Got "
            f"{told.strip()}"
        )
