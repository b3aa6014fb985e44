"""The policy loss, computed from hidden states one chunk of tokens at a time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, ScalarLike

from pgpo_jax._categorical import token_log_probs
from pgpo_jax._reduce import Mask, SequenceMask
from pgpo_jax.distillation._divergence import check_temperature, tempered
from pgpo_jax.distillation._head_sharding import HeadSharding
from pgpo_jax.distillation._importance import importance_ratio
from pgpo_jax.distillation._policy import check_clips, policy_loss
from pgpo_jax.distillation._token_loss import (
    GivenTokens,
    PolicyLoss,
    Reduced,
    student_statistics,
    token_loss,
)


def policy_head_loss(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "D V"],
    tokens: Int[Array, "B T"],
    advantages: Float[Array, " B"],
    response_mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    old_logprobs: Float[Array, "B T"] | None = None,
    clip_low: float | int = 0.2,
    clip_high: float | int = 0.28,
    dual_clip: float | int = 3.0,
    sampler_logprobs: Float[Array, "B T"] | None = None,
    rollout_clip: float | int = 2.0,
    temperature: float | int = 1.0,
    reduction: str = "sequence_mean",
    num_sequences: ScalarLike | None = None,
    num_tokens: ScalarLike | None = None,
    chunk_size: int = 512,
    sharding: HeadSharding | None = None,
) -> PolicyLoss:
    """`policy_loss` and the token statistics in one pass over the vocabulary.

    Args:
        hidden: final hidden states at the positions that predict `tokens`.
        head: output projection, `logits = hidden @ head`.
        tokens: sampled response tokens.
        advantages: advantage of each sequence. In GRPO it is the score minus the mean score of the
            group.
        response_mask: response tokens (nonzero: counts). Values off the mask are ignored.
        sequence_mask: sequences that count; all of them if omitted.
        old_logprobs: log-probabilities at the beginning of the batch, in nats. If omitted they are
            the current ones, as at the first optimizer step of a batch.
        clip_low: lower clip of the ratio, see `policy_loss`.
        clip_high: upper clip of the ratio to `old_logprobs`.
        dual_clip: bound of that ratio where the advantage is negative.
        sampler_logprobs: log-probabilities that the sampler recorded, in nats. The loss is then
            weighted by `rollout_correction`, the ratio of the policy at the beginning of the batch
            to the sampler. No correction if omitted.
        rollout_clip: cap of that correction.
        temperature: divides the logits first.
        reduction: the reduction of `aggregate`.
        num_sequences: N of the whole batch, if this is a micro-batch of it.
        num_tokens: tokens of the whole batch, for `reduction="token_mean"`.
        chunk_size: tokens per chunk.
        sharding: how the products with the head are cut over a mesh.

    Returns:
        A `PolicyLoss`.

    Raises:
        ValueError: a clip or temperature outside its range, an undefined reduction, a chunk
            without a token, or a vocabulary that does not divide over the mesh.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> hidden, head = jnp.ones((2, 3, 4)), jnp.eye(4, 5)
    >>> tokens, mask, advantages = jnp.zeros((2, 3), int), jnp.ones((2, 3)), jnp.array([0.5, -0.5])
    >>> out = pgpo.distillation.policy_head_loss(hidden, head, tokens, advantages, mask)
    >>> abs(float(out.loss)) < 1e-6, out.student_logprobs.shape
    (True, (2, 3))
    """
    check_clips(clip_low, clip_high, dual_clip)
    check_temperature(temperature)
    per_token = {"advantages": jnp.broadcast_to(advantages[:, None], response_mask.shape)}
    given = {"old": old_logprobs, "sampler": sampler_logprobs}
    per_token |= {name: x for name, x in given.items() if x is not None}

    def on_logits(logits: Array, chunk: dict) -> tuple[Array, dict]:
        logits = tempered(logits, temperature)
        logprobs = token_log_probs(logits, chunk["tokens"])
        frozen = jax.lax.stop_gradient(logprobs)
        old = chunk.get("old", frozen)
        per_token = policy_loss(
            logprobs,
            old,
            chunk["advantages"],
            clip_low=clip_low,
            clip_high=clip_high,
            dual_clip=dual_clip,
        )
        weights = chunk["coefficients"]
        if sampler_logprobs is not None:
            # The correction is that of the policy at the beginning of the batch. The loss has the
            # ratio of the current policy to that one.
            weights = weights * importance_ratio(old, chunk["sampler"], rollout_clip)
        return jnp.sum(weights * per_token), student_statistics(logits, logprobs)

    batch = GivenTokens(hidden, head, tokens, response_mask, sequence_mask)
    reduced = Reduced(reduction, num_sequences, num_tokens)
    return token_loss(on_logits, batch, reduced, per_token, chunk_size, sharding)
