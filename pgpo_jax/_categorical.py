"""Categorical distributions from logits, shared by the estimators and the losses.

Zero probabilities are legal in both distributions: padded or forbidden words have logits of -inf.
Where a formula needs log 0, it uses the log of the smallest normal number instead. So values and
gradients stay finite. Other log-probabilities are not changed, however negative they are.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pgpo_jax._precision import at_least_float32


def log_normalizer(logits: Float[Array, "*batch V"]) -> Float[Array, "*batch 1"]:
    """log sum exp over the vocabulary, in at least float32; 0 for a row of only -inf."""
    z = logits.astype(at_least_float32(logits.dtype))
    peak = jax.lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True))
    peak = jnp.where(peak == -jnp.inf, 0.0, peak)
    total = jnp.sum(jnp.exp(z - peak), axis=-1, keepdims=True)
    return peak + jnp.log(jnp.where(total > 0, total, 1.0))


def log_probs(logits: Float[Array, "*batch V"]) -> Float[Array, "*batch V"]:
    """Log-softmax in at least float32; a row of only -inf stays -inf instead of NaN."""
    return logits.astype(at_least_float32(logits.dtype)) - log_normalizer(logits)


def token_log_probs(
    logits: Float[Array, "*batch V"], tokens: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Log-probability of one token per row, in nats."""
    chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)
    return (chosen.astype(at_least_float32(logits.dtype)) - log_normalizer(logits))[..., 0]


def finite(log_p: Float[Array, "..."]) -> Float[Array, "..."]:
    """`log_p` with log 0 replaced by the log of the smallest normal number."""
    return jnp.where(log_p == -jnp.inf, jnp.log(jnp.finfo(log_p.dtype).tiny), log_p)


def entropy(log_p: Float[Array, "*batch V"]) -> Float[Array, "*batch"]:
    """Shannon entropy in nats, from log-probabilities."""
    return -jnp.sum(jnp.exp(log_p) * finite(log_p), axis=-1)


def mixture_divergence(
    log_p: Float[Array, "*batch C"],
    log_q: Float[Array, "*batch C"],
    weight: float | int,
    entry_clip: float | int | None = None,
) -> Float[Array, "*batch"]:
    """(1-w) KL(p||m) + w KL(q||m) with m = (1-w) p + w q; KL(q||p) at w=0, KL(p||q) at w=1.

    The value is clipped at zero, since only rounding can make it negative. The gradient is that of
    the formula. With `entry_clip` each word's share of the sum is clipped from above at it. The sum
    may then be negative and is not clipped at zero.
    """
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    log_p, log_q = finite(log_p), finite(log_q)
    if weight == 0:
        entries = q * (log_q - log_p)
    elif weight == 1:
        entries = p * (log_p - log_q)
    else:
        w = jnp.asarray(weight, log_p.dtype)
        log_m = jnp.logaddexp(log_p + jnp.log1p(-w), log_q + jnp.log(w))
        entries = (1 - w) * p * (log_p - log_m) + w * q * (log_q - log_m)
    if entry_clip is not None:
        return jnp.sum(jnp.minimum(entries, jnp.asarray(entry_clip, entries.dtype)), axis=-1)
    value = jnp.sum(entries, axis=-1)
    return value + jax.lax.stop_gradient(jnp.maximum(value, 0.0) - value)
