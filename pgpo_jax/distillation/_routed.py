"""Responses that learn by a policy gradient, others from the teacher, in one pass (SRPO)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._categorical import entropy, log_probs, token_log_probs
from pgpo_jax.distillation._policy import policy_loss
from pgpo_jax.distillation._taught_head import TokenLoss


def entropy_weights(
    teacher_logits: Float[Array, "*batch V"], beta: float | int = 1.0
) -> Float[Array, "*batch"]:
    """exp(-beta H(q)): less of what the teacher is unsure of.

    SRPO divides them by their mean over all tokens that are distilled.

    Args:
        teacher_logits: over the temperature.
        beta: per nat; 0: all are 1.

    Returns:
        A weight in (0, 1] per token; no gradient.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> logits = jnp.array([[0.0, 0.0], [0.0, -jnp.inf]])
    >>> pgpo.distillation.entropy_weights(logits).tolist()
    [0.5, 1.0]
    """
    return jax.lax.stop_gradient(jnp.exp(-beta * entropy(log_probs(teacher_logits))))


def routed_loss(
    distance: Callable[[Array, Array, dict[str, Array]], Array], *, beta: float | int = 1.0
) -> TokenLoss:
    """A weighted divergence where a token is distilled, a policy loss where it is reinforced.

    Args:
        distance: the divergence of each token, as a `TokenLoss`.
        beta: of `entropy_weights`.

    Returns:
        A loss that reads of each token `distil` (what its weighted divergence is multiplied by),
        `reinforce` (the same of its policy loss) and `advantages`.

    References:
        SRPO, https://arxiv.org/abs/2604.02288 (v1).

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> def distance(student, teacher, chunk):
    ...     return pgpo.distillation.divergence(student, teacher, support="full")
    >>> one, none = jnp.ones(1), jnp.zeros(1)
    >>> chunk = {"tokens": jnp.zeros(1, int), "advantages": 2 * one}
    >>> loss = pgpo.distillation.routed_loss(distance)
    >>> flat = jnp.zeros((1, 3))
    >>> loss(flat, flat, {**chunk, "distil": none, "reinforce": one}).tolist()
    [-2.0]
    """

    def loss(student: Array, teacher: Array, chunk: dict[str, Array]) -> Array:
        logprobs = token_log_probs(student, chunk["tokens"])
        policy = policy_loss(logprobs, jax.lax.stop_gradient(logprobs), chunk["advantages"])
        taught = entropy_weights(teacher, beta) * distance(student, teacher, chunk)
        return chunk["distil"] * taught + chunk["reinforce"] * policy

    return loss
