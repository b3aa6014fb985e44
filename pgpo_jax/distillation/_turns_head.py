"""Policy losses and a cross-entropy of one model in one pass, by chunks of tokens (RLTF)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, ScalarLike

from pgpo_jax._categorical import token_log_probs
from pgpo_jax._reduce import Mask, SequenceMask
from pgpo_jax.distillation._divergence import check_temperature, tempered
from pgpo_jax.distillation._head_sharding import HeadSharding
from pgpo_jax.distillation._importance import importance_ratio
from pgpo_jax.distillation._policy import policy_loss
from pgpo_jax.distillation._token_loss import (
    GivenTokens,
    PolicyLoss,
    Reduced,
    student_statistics,
    token_loss,
)
from pgpo_jax.errors import PGPOValueError


def turns_token_loss(
    logprobs: Float[Array, "*batch"],
    advantages: Float[Array, "*batch"],
    supervised: Float[Array, "*batch"],
    floored: Float[Array, "*batch"],
    *,
    min_logprob: float | int | None = None,
) -> Float[Array, "*batch"]:
    r"""-A r for sampled tokens, and -w log p for given ones.

    The ratio r to the policy before the step is 1 in value and has a gradient.

    Args:
        logprobs: log p(y) of each token, nats. The gradient flows through these.
        advantages: advantage A of each token.
        supervised: weight w of each token; 0 for sampled tokens.
        floored: 1 for tokens that are left out if their log-probability is below `min_logprob`.
        min_logprob: smallest log-probability, nats; `None` leaves out no token.

    Returns:
        The loss of each token.

    References:
        RLTF, https://arxiv.org/abs/2602.02482, as run in github.com/lili-chen/rltf at 22ddfd7.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> logprobs, one = jnp.array([-1.0, -6.0]), jnp.ones(2)
    >>> loss = pgpo.distillation.turns_token_loss(logprobs, one, 0 * one, one, min_logprob=-5)
    >>> [abs(float(x)) for x in loss]
    [1.0, 0.0]
    >>> pgpo.distillation.turns_token_loss(logprobs, 0 * one, 0.5 * one, 0 * one).tolist()
    [0.5, 3.0]

    Added in version 0.2.0.
    """
    frozen = jax.lax.stop_gradient(logprobs)
    if min_logprob is not None:
        advantages = jnp.where((floored > 0) & (frozen < min_logprob), 0.0, advantages)
    return policy_loss(logprobs, frozen, advantages) - supervised * logprobs


def turns_head_loss(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "D V"],
    tokens: Int[Array, "B T"],
    advantages: Float[Array, " B"],
    supervised: Float[Array, " B"],
    floored: Float[Array, " B"],
    response_mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    min_logprob: float | int | None = None,
    sampler_logprobs: Float[Array, "B T"] | None = None,
    sampled: Float[Array, " B"] | None = None,
    rollout_clip: float | int | None = None,
    temperature: float | int = 1.0,
    reduction: str = "sequence_mean",
    num_sequences: ScalarLike | None = None,
    num_tokens: ScalarLike | None = None,
    chunk_size: int = 512,
    sharding: HeadSharding | None = None,
) -> PolicyLoss:
    """`turns_token_loss` reduced over the responses, one chunk of tokens at a time.

    Args:
        hidden: final hidden states at the positions that predict `tokens`.
        head: output projection, `logits = hidden @ head`.
        tokens: tokens of the responses.
        advantages: advantage of each response.
        supervised: weight of the cross-entropy of each response.
        floored: 1 for the responses to which `min_logprob` applies.
        response_mask: tokens that count (nonzero). Values off the mask are ignored.
        sequence_mask: sequences that count; all of them if omitted.
        min_logprob: smallest log-probability of `turns_token_loss`, nats.
        sampler_logprobs: log-probabilities that the sampler recorded, nats.
        sampled: 1 for the responses that are weighted by their clipped ratio to `sampler_logprobs`.
        rollout_clip: clip of that ratio; `None`: no weights.
        temperature: divides all logits.
        reduction: the reduction of `aggregate`.
        num_sequences: N of the whole batch, if this is a micro-batch of it.
        num_tokens: tokens of the whole batch.
        chunk_size: tokens per chunk.
        sharding: how the products with the head are cut over a mesh.

    Returns:
        A `PolicyLoss`.

    Raises:
        ValueError: a temperature that is not positive, an undefined reduction, or a `rollout_clip`
            without `sampler_logprobs` and `sampled`.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> hidden, head, one = jnp.zeros((1, 3, 4)), jnp.eye(4, 5), jnp.ones(1)
    >>> out = pgpo.distillation.turns_head_loss(
    ...     hidden, head, jnp.zeros((1, 3), int), one, 0 * one, 0 * one, jnp.ones((1, 3)))
    >>> float(out.loss)
    -1.0

    Added in version 0.2.0.
    """
    check_temperature(temperature)
    shape = response_mask.shape
    per_token = {
        name: jnp.broadcast_to(values[:, None], shape)
        for name, values in (
            ("advantages", advantages),
            ("supervised", supervised),
            ("floored", floored),
        )
    }
    if rollout_clip is not None:
        if sampler_logprobs is None or sampled is None:
            raise PGPOValueError(
                "rollout_clip needs sampler_logprobs and sampled, got "
                f"{[x is not None for x in (sampler_logprobs, sampled)]} of them"
            )
        per_token["sampler"] = sampler_logprobs
        per_token["sampled"] = jnp.broadcast_to(sampled[:, None], shape)

    def on_logits(logits: Array, chunk: dict) -> tuple[Array, dict]:
        logits = tempered(logits, temperature)
        logprobs = token_log_probs(logits, chunk["tokens"])
        losses = turns_token_loss(
            logprobs,
            chunk["advantages"],
            chunk["supervised"],
            chunk["floored"],
            min_logprob=min_logprob,
        )
        weights = chunk["coefficients"]
        if rollout_clip is not None:
            frozen = jax.lax.stop_gradient(logprobs)
            ratio = importance_ratio(frozen, chunk["sampler"], rollout_clip)
            weights = weights * jnp.where(chunk["sampled"] > 0, ratio, 1.0)
        return jnp.sum(weights * losses), student_statistics(logits, logprobs)

    batch = GivenTokens(hidden, head, tokens, response_mask, sequence_mask)
    reduced = Reduced(reduction, num_sequences, num_tokens)
    return token_loss(on_logits, batch, reduced, per_token, chunk_size, sharding)
