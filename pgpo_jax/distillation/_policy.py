"""The clipped policy loss of GRPO, as the SDPO authors run it for comparison."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._multiplier import check_number

# Beyond this log-ratio the ratio is numerically 0 or far outside any clip.
_LOG_RATIO_LIMIT = 20.0


def check_clips(clip_low: object, clip_high: object, dual_clip: object) -> None:
    """Refuse clips for which the loss is not defined."""
    check_number("clip_low", clip_low, "a number in [0, 1)", lambda x: (x >= 0) & (x < 1))
    check_number("clip_high", clip_high, "a number >= 0", lambda x: x >= 0)
    check_number("dual_clip", dual_clip, "a number > 1 (inf: none)", lambda x: x > 1)


def policy_loss(
    logprobs: Float[Array, "*batch"],
    old_logprobs: Float[Array, "*batch"],
    advantages: Float[Array, "*batch"],
    *,
    clip_low: float | int = 0.2,
    clip_high: float | int = 0.28,
    dual_clip: float | int = 3.0,
) -> Float[Array, "*batch"]:
    r"""PPO's clipped surrogate per token, with a second clip for negative advantages.

    $$\ell = \max\{-A r,\; -A\,\mathrm{clip}(r, 1-c_l, 1+c_h)\},\qquad r = p(y)/p_\mathrm{old}(y)$$

    Where A < 0 the loss is at most -A times `dual_clip`. This bounds the loss of a sampled token
    that has become likely. A clipped token has no gradient. At r = 1, the first optimizer step of a
    batch, nothing is clipped. There the gradient is -A times that of log p(y).

    Args:
        logprobs: log p of the sampled tokens, nats. The gradient flows through these.
        old_logprobs: log p of the same tokens at the beginning of the batch, nats.
        advantages: advantage A of each token.
        clip_low: the ratio is clipped below at 1 minus this.
        clip_high: the ratio is clipped above at 1 plus this.
        dual_clip: largest ratio that counts for a negative advantage; `inf` for no bound.

    Returns:
        The loss per token, to be minimised.

    Raises:
        ValueError: a clip outside its range.

    References:
        GRPO, https://arxiv.org/abs/2402.03300; the clips as in https://arxiv.org/abs/2503.14476 and
        https://arxiv.org/abs/1912.09729.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> ratio, advantage = jnp.array([1.0, 2.0, 0.5, 9.0]), jnp.array([1.0, 1.0, -1.0, -1.0])
    >>> loss = pgpo.distillation.policy_loss(jnp.log(ratio), jnp.zeros(4), advantage)
    >>> [round(float(x), 4) for x in loss]
    [-1.0, -1.28, 0.8, 3.0]
    """
    check_clips(clip_low, clip_high, dual_clip)
    log_ratio = logprobs - jax.lax.stop_gradient(old_logprobs)
    ratio = jnp.exp(jnp.clip(log_ratio, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT))
    advantages = jax.lax.stop_gradient(advantages)
    loss = jnp.maximum(
        -advantages * ratio, -advantages * jnp.clip(ratio, 1 - clip_low, 1 + clip_high)
    )
    if dual_clip == float("inf"):
        return loss
    return jnp.where(advantages < 0, jnp.minimum(loss, -advantages * dual_clip), loss)
