"""The step-size multiplier rho(I) of Eq. 9 of the paper (arXiv 2606.03620)."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, ScalarLike

from pgpo_jax._precision import at_least_float32
from pgpo_jax.errors import PGPOTypeError, PGPOValueError


def check_number(name: str, value: object, rule: str, holds: Callable[[Any], Any]) -> None:
    """Raise ValueError unless `value` is one number for which `holds`; a tracer passes.

    Text and arrays are refused. An array would scale each entry of an update by another number, by
    broadcasting.
    """
    if isinstance(value, Tracer):
        return
    number = np.asarray(value)
    # V: bfloat16 and similar dtypes, for which NumPy has no letter.
    ok = number.shape == () and number.dtype.kind in "biufV"
    ok = ok and bool(holds(number.astype(np.float64)))
    if not ok:
        raise PGPOValueError(f"{name} must be {rule}, got {value!r}.")


def check_hyperparameters(alpha: object, rho_max: object, rho_min: object) -> None:
    """Refuse hyperparameters for which Eq. 9 is not a bounded, increasing multiplier."""
    check_number("alpha", alpha, "a finite number >= 0", lambda x: (x >= 0) & np.isfinite(x))
    check_number("rho_max", rho_max, "a number >= 1 (inf: no cap)", lambda x: x >= 1)
    check_number("rho_min", rho_min, "a number in [0, 1]", lambda x: (x >= 0) & (x <= 1))


def refuse_rounded(**hyperparameters: object) -> None:
    """Refuse hyperparameters in 16 bits, tracers too: bfloat16 rounds .999 and 1.003 to 1.

    `optax.inject_hyperparams` rounds them to the dtype of the parameters first, so the original
    value is lost.
    """
    for name, value in hyperparameters.items():
        dtype = getattr(value, "dtype", None)
        if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
            raise PGPOTypeError(
                f"{name} must not be a number of 16 bits, got {dtype}: optax.inject_hyperparams "
                "rounds hyperparameters to the dtype of the parameters. Pass it "
                "hyperparam_dtype=jnp.float32."
            )


def multiplier(
    information: ArrayLike,
    alpha: ScalarLike = 1.0,
    rho_max: ScalarLike = 2.0,
    rho_min: ScalarLike = 0.0,
) -> Float[Array, "*shape"]:
    r"""The factor by which a given amount of information scales the step (Eq. 9).

    $$\rho(I) = \max\{\rho_{\min}, \min(e^{\alpha I}, \rho_{\max})\}$$

    It is evaluated as `exp(min(alpha I, log rho_max))`, so that no intermediate overflows. At the
    cap the value is exactly `rho_max` and the derivative is zero. The function can be batched and
    differentiated any number of times. It computes in float32, or in float64 for float64 input. A
    NaN stays a NaN here; `scale_by_information` handles it.

    Args:
        information: the signal I in nats, of any shape.
        alpha: sensitivity per nat, >= 0; 0 gives a multiplier of one.
        rho_max: largest multiplier, >= 1; `inf` removes the cap.
        rho_min: smallest multiplier, in [0, 1]; 1 forbids a step shorter than the optimizer's.

    Returns:
        rho, in the shape of `information`.

    Raises:
        ValueError: a hyperparameter outside its range (tracers are not checked).

    >>> import pgpo_jax as pgpo
    >>> float(pgpo.multiplier(0.0)), float(pgpo.multiplier(5.0))
    (1.0, 2.0)
    >>> round(float(pgpo.multiplier(-0.5, rho_min=0.0)), 4)
    0.6065
    """
    check_hyperparameters(alpha, rho_max, rho_min)
    signal = jnp.asarray(information)
    dtype = at_least_float32(signal.dtype)
    exponent = jnp.asarray(alpha, dtype) * signal.astype(dtype)
    cap = jnp.asarray(rho_max, dtype)
    log_cap = jnp.log(cap)
    rho = jnp.where(exponent >= log_cap, cap, jnp.exp(jnp.minimum(exponent, log_cap)))
    return jnp.maximum(rho, jnp.asarray(rho_min, dtype))
