"""The functions whose expectations are computed."""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError
from sde.exact._blocks import in_blocks


@dataclass(frozen=True)
class Observable:
    """A function of theta, `[d]` -> scalar.

    Attributes:
        name: name in reports.
        function: theta -> scalar, traceable.
        degree: p where the function is theta[0] ** p, else `None`.

    >>> Observable("m1", lambda theta: theta[0], degree=1).name
    'm1'
    """

    name: str
    function: Callable[[Float[Array, " d"]], Float[Array, ""]]
    degree: int | None = None

    def on(self, nodes: Float[np.ndarray, "P d"]) -> Float[np.ndarray, " P"]:
        """The values at many points."""
        if self.degree is not None:
            return nodes[:, 0] ** self.degree
        with jax.enable_x64(True):
            (values,) = in_blocks(lambda block: (_on_block(self.function, block),), nodes)
        if values.shape != nodes.shape[:1]:
            raise PGPOValueError(
                f"observable {self.name!r} must give one number per theta, got the shape "
                f"{values.shape[1:]}"
            )
        return values


@ft.partial(jax.jit, static_argnums=0)
def _on_block(
    function: Callable[[Float[Array, " d"]], Float[Array, ""]], nodes: Float[Array, "P d"]
) -> Float[Array, " P"]:
    return jax.vmap(function)(nodes).astype(float)


def _power(degree: int) -> Callable[[Float[Array, " d"]], Float[Array, ""]]:
    return lambda theta: theta[0] ** degree


OBSERVABLES = MappingProxyType(
    {
        "mean": Observable("mean", _power(1), 1),
        "m2": Observable("m2", _power(2), 2),
        "m3": Observable("m3", _power(3), 3),
        "m4": Observable("m4", _power(4), 4),
        "cos3x": Observable("cos3x", lambda theta: jnp.cos(3.0 * theta[0])),
    }
)
"""The test functions by name."""


def as_observable(observable: str | Callable | Observable) -> Observable:
    """An observable by its name in `OBSERVABLES`, or a function theta `[d]` -> scalar.

    Raises:
        ValueError: the name is unknown. The message lists the known names.

    >>> as_observable("m2").degree
    2
    """
    if isinstance(observable, Observable):
        return observable
    if callable(observable):
        return Observable(getattr(observable, "__name__", "observable"), observable)
    if observable not in OBSERVABLES:
        raise PGPOValueError(
            f"unknown observable {observable!r}; there are {', '.join(OBSERVABLES)}, or pass a "
            "function of theta"
        )
    return OBSERVABLES[observable]
