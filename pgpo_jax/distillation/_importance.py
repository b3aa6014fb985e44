"""Importance weights per token, truncated and without a gradient."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax._multiplier import check_number
from pgpo_jax._reduce import Mask

# Beyond this log-ratio the ratio is numerically 0 or far above any clip.
_LOG_RATIO_LIMIT = 20.0


def _truncated_ratio(log_ratio: Float[Array, "..."], clip: float | int) -> Float[Array, "..."]:
    check_number("clip", clip, "a number > 0", lambda x: x > 0)
    ratio = jnp.exp(jnp.clip(log_ratio, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT))
    return jax.lax.stop_gradient(jnp.minimum(ratio, jnp.asarray(clip, ratio.dtype)))


def importance_ratio(
    logprobs: Float[Array, "*batch"],
    sampler_logprobs: Float[Array, "*batch"],
    clip: float | int = 2.0,
) -> Float[Array, "*batch"]:
    """Truncated ratio of the current policy to the one that drew the tokens.

    The ratio is min(exp(log p(y) - log p_sampler(y)), clip). It has an upper bound only, and no
    gradient. With one optimizer step per batch the two policies agree and it is 1.

    Args:
        logprobs: log-probabilities of the sampled tokens now, nats.
        sampler_logprobs: their log-probabilities when they were drawn, nats.
        clip: largest weight.

    Returns:
        A weight per token, to multiply the per-token loss.

    Raises:
        ValueError: clip <= 0.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> pgpo.distillation.importance_ratio(jnp.array([0.0, 3.0]), jnp.zeros(2)).tolist()
    [1.0, 2.0]
    """
    return _truncated_ratio(logprobs - sampler_logprobs, clip)


def sequence_ratio(
    logprobs: Float[Array, "B T"],
    sampler_logprobs: Float[Array, "B T"],
    mask: Mask,
    clip: float | int = 2.0,
) -> Float[Array, "B T"]:
    """One truncated ratio per sequence: the mean of `importance_ratio` over its tokens.

    Args:
        logprobs: log-probabilities of the sampled tokens now, nats.
        sampler_logprobs: their log-probabilities when they were drawn, nats.
        mask: tokens of the loss (nonzero: counts). Values off the mask are ignored.
        clip: largest ratio of a token.

    Returns:
        The mean at each token of its sequence, 0 off the mask; no gradient.

    Raises:
        ValueError: clip <= 0.

    References:
        SDFT, https://github.com/idanshen/Self-Distillation (its `distil_trainer.py`).

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> now, then = jnp.log(jnp.array([[1.5, 3.0, 1.0]])), jnp.zeros((1, 3))
    >>> pgpo.distillation.sequence_ratio(now, then, jnp.array([[1, 1, 0]])).tolist()
    [[1.75, 1.75, 0.0]]

    Added in version 0.2.0.
    """
    valid = mask.astype(bool)
    ratio = jnp.where(valid, _truncated_ratio(logprobs - sampler_logprobs, clip), 0.0)
    tokens = jnp.maximum(valid.sum(axis=1, keepdims=True, dtype=jnp.int32), 1)
    mean = jnp.sum(ratio, axis=1, keepdims=True) / tokens.astype(ratio.dtype)
    return jnp.where(valid, mean, 0.0)


def rollout_correction(
    old_logprobs: Float[Array, "B T"],
    sampler_logprobs: Float[Array, "B T"],
    response_mask: Mask,
    threshold: float | int = 2.0,
) -> Float[Array, "B T"]:
    """Truncated ratio of the trainer's policy to the sampler's, zero on padding.

    It corrects for a sampler whose numerics differ from the trainer's, for example by another
    kernel or a cache in bfloat16. Both must use the same temperature and no top-p or top-k filter.

    Args:
        old_logprobs: log-probabilities of the sampled tokens at the beginning of the batch, in
            nats, from the trainer's own forward pass.
        sampler_logprobs: log-probabilities of the same tokens from the sampler, in nats.
        response_mask: response tokens (nonzero: counts).
        threshold: largest weight.

    Returns:
        A weight per token, not normalised over the batch.

    Raises:
        ValueError: threshold <= 0.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> old, sampler = jnp.array([[0.0, 0.0]]), jnp.array([[-5.0, 0.0]])
    >>> pgpo.distillation.rollout_correction(old, sampler, jnp.array([[1, 0]])).tolist()
    [[2.0, 0.0]]
    """
    return jnp.where(
        response_mask.astype(bool),
        _truncated_ratio(old_logprobs - sampler_logprobs, threshold),
        0.0,
    )
