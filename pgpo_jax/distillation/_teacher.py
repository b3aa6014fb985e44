"""Teachers computed from logits: the trust region around the initial model."""

import jax
from jaxtyping import Array, Float

from pgpo_jax._precision import at_least_float32
from pgpo_jax.errors import PGPOValueError


def check_rate(rate: float | int) -> None:
    """Refuse a mixing rate outside [0, 1]."""
    if not 0 <= rate <= 1:
        raise PGPOValueError(f"The trust-region rate must be in [0, 1], got {rate!r}.")


def trust_region_logits(
    reference_logits: Float[Array, "*batch V"],
    student_logits: Float[Array, "*batch V"],
    rate: float | int,
) -> Float[Array, "*batch V"]:
    """Teacher logits between a frozen reference and the live student.

    The result is (1 - rate) * reference + rate * student on the raw logits, before any temperature.
    This is the geometric mixture of the two policies. Both are evaluated on the teacher's prompt.
    No gradient flows.

    Args:
        reference_logits: logits of the initial model.
        student_logits: logits of the current student on the teacher's prompt.
        rate: share of the student, in [0, 1].

    Returns:
        Teacher logits in float32 or wider.

    Raises:
        ValueError: rate outside [0, 1].

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> pgpo.distillation.trust_region_logits(jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0]), 0.25)
    Array([0.25, 1.  ], dtype=float32)
    """
    check_rate(rate)
    dtype = at_least_float32(reference_logits.dtype)
    reference, student = reference_logits.astype(dtype), student_logits.astype(dtype)
    if rate in (0, 1):
        # 0 * -inf would be NaN at a forbidden word.
        return jax.lax.stop_gradient(student if rate == 1 else reference)
    return jax.lax.stop_gradient((1 - rate) * reference + rate * student)
