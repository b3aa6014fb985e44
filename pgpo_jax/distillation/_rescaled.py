"""Advantages with the sign of the reward and a size set by the teacher (RLSD)."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._categorical import finite, token_log_probs
from pgpo_jax._multiplier import check_number
from pgpo_jax._reduce import check_choice
from pgpo_jax.distillation._policy import policy_loss
from pgpo_jax.distillation._taught_head import TokenLoss

Rescaling = Literal["algorithm1", "eq16"]


def rescaled_advantages(
    advantages: Float[Array, "*batch"],
    log_ratio: Float[Array, "*batch"],
    *,
    mix: Float[Array, "*batch"] | float | int = 0.5,
    clip: float | int = 0.2,
    variant: str = "algorithm1",
) -> Float[Array, "*batch"]:
    r"""Advantages of tokens, larger where the teacher agrees with the reward.

    With D = log q(y) - log p(y), w = exp(sign(A) D) and c = clip(w, 1-e, 1+e), `"algorithm1"` is

    $$\hat A = A\,(1 - \lambda + \lambda\, c)$$

    The variant `"eq16"` has min(w A, c A) instead of c A. The paper prints both, and they differ.
    For A < 0 the minimum takes the larger absolute value, so the clip at 1+e has no effect. Eq. 16
    as printed has mix = 1.

    Args:
        advantages: advantage A of each token.
        log_ratio: log-ratio D of each token, nats.
        mix: share of the teacher, lambda, in [0, 1].
        clip: clip e, in [0, 1).
        variant: `"algorithm1"` or `"eq16"`.

    Returns:
        The advantages; no gradient.

    Raises:
        ValueError: an unknown variant, or a clip or mix outside its range.

    References:
        RLSD, https://arxiv.org/abs/2604.03128 (v2), Algorithm 1 and Eq. 16.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> toward, away = jnp.log(jnp.array([1.1, 0.5]))
    >>> a, d = jnp.array([1.0, 1.0, -1.0, -1.0]), jnp.array([toward, away, toward, away])
    >>> out = pgpo.distillation.rescaled_advantages(a, d)
    >>> [round(float(x), 3) for x in out]
    [1.05, 0.9, -0.955, -1.1]

    Added in version 0.2.0.
    """
    check_choice("variant", variant, get_args(Rescaling))
    check_number("clip", clip, "a number in [0, 1)", lambda x: (x >= 0) & (x < 1))
    if not isinstance(mix, jax.Array):
        check_number("mix", mix, "a number in [0, 1]", lambda x: (x >= 0) & (x <= 1))
    ratio = jnp.exp(jnp.sign(advantages) * log_ratio)
    scaled = jnp.clip(ratio, 1 - clip, 1 + clip) * advantages
    if variant == "eq16":
        scaled = jnp.minimum(ratio * advantages, scaled)
    return jax.lax.stop_gradient((1 - mix) * advantages + mix * scaled)


def rescaled_loss(*, clip: float | int = 0.2, variant: str = "algorithm1") -> TokenLoss:
    """`policy_loss` with `rescaled_advantages`, for `taught_head_loss`.

    This is the loss of the first step of a batch. The ratio is then that of the current policy to
    itself, so no clip is active.

    Args:
        clip: clip e of `rescaled_advantages`.
        variant: variant of `rescaled_advantages`.

    Returns:
        A loss that reads `advantages` and `mix` of each token.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> loss = pgpo.distillation.rescaled_loss()
    >>> one = jnp.ones((1, 2))
    >>> chunk = {"tokens": jnp.zeros((1, 2), int), "advantages": one, "mix": 0.5 * one}
    >>> loss(jnp.zeros((1, 2, 3)), jnp.zeros((1, 2, 3)), chunk).tolist()
    [[-1.0, -1.0]]

    Added in version 0.2.0.
    """

    def loss(student: Array, teacher: Array, chunk: dict[str, Array]) -> Array:
        logprobs = finite(token_log_probs(student, chunk["tokens"]))
        old = jax.lax.stop_gradient(logprobs)
        advantages = rescaled_advantages(
            chunk["advantages"],
            finite(token_log_probs(teacher, chunk["tokens"])) - old,
            mix=chunk["mix"],
            clip=clip,
            variant=variant,
        )
        return policy_loss(logprobs, old, advantages)

    return loss
