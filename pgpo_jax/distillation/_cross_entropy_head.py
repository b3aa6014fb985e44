"""The cross-entropy of given tokens, computed from hidden states one chunk of tokens at a time."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, ScalarLike

from pgpo_jax._categorical import token_log_probs
from pgpo_jax._reduce import Mask, SequenceMask
from pgpo_jax.distillation._head_sharding import HeadSharding
from pgpo_jax.distillation._token_loss import (
    GivenTokens,
    PolicyLoss,
    Reduced,
    student_statistics,
    token_loss,
)


def cross_entropy_head_loss(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "D V"],
    tokens: Int[Array, "B T"],
    response_mask: Mask,
    sequence_mask: SequenceMask | None = None,
    *,
    reduction: str = "sequence_mean",
    num_sequences: ScalarLike | None = None,
    num_tokens: ScalarLike | None = None,
    chunk_size: int = 512,
    sharding: HeadSharding | None = None,
) -> PolicyLoss:
    """-log p(token), reduced over the responses. The logits of all tokens are never held at once.

    Args:
        hidden: final hidden states at the positions that predict `tokens`.
        head: output projection, `logits = hidden @ head`.
        tokens: the tokens to learn.
        response_mask: tokens that count (nonzero). Values off the mask are ignored.
        sequence_mask: sequences that count; all of them if omitted.
        reduction: the reduction of `aggregate`.
        num_sequences: N of the whole batch, if this is a micro-batch of it.
        num_tokens: tokens of the whole batch, for `reduction="token_mean"`.
        chunk_size: tokens per chunk.
        sharding: how the products with the head are cut over a mesh.

    Returns:
        A `PolicyLoss` of the given tokens.

    Raises:
        ValueError: an undefined reduction, a chunk without a token, or a vocabulary that does not
            divide over the mesh.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> hidden, head = jnp.zeros((1, 3, 4)), jnp.eye(4, 5)
    >>> tokens, mask = jnp.zeros((1, 3), int), jnp.ones((1, 3))
    >>> out = pgpo.distillation.cross_entropy_head_loss(hidden, head, tokens, mask)
    >>> round(float(out.loss), 4) == round(float(jnp.log(5)), 4)
    True

    Added in version 0.2.0.
    """

    def on_logits(logits: Array, chunk: dict) -> tuple[Array, dict]:
        logprobs = token_log_probs(logits, chunk["tokens"])
        return -jnp.sum(chunk["coefficients"] * logprobs), student_statistics(logits, logprobs)

    batch = GivenTokens(hidden, head, tokens, response_mask, sequence_mask)
    reduced = Reduced(reduction, num_sequences, num_tokens)
    return token_loss(on_logits, batch, reduced, {}, chunk_size, sharding)
