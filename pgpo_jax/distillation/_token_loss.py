"""Code that losses of one model share: given tokens, one head, one chunk of tokens at a time."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, ScalarLike

from pgpo_jax._categorical import entropy, log_probs
from pgpo_jax._precision import at_least_float32, wider
from pgpo_jax._reduce import Mask, SequenceMask
from pgpo_jax.distillation._aggregate import token_coefficients
from pgpo_jax.distillation._chunked import chunked_loss
from pgpo_jax.distillation._chunks import chunk_layout
from pgpo_jax.distillation._head_sharding import HeadSharding

OnLogits = Callable[[Array, dict[str, Array]], tuple[Array, dict[str, Array]]]


class PolicyLoss(NamedTuple):
    """Results of one pass over the vocabulary. Only `loss` has a gradient.

    Attributes:
        loss: loss to minimise.
        student_logprobs: log-probability of the given tokens at the temperature, nats; 0 off the
            response.
        student_entropy: entropy of the next-token distribution, nats; 0 off the response.
    """

    loss: Float[Array, ""]
    student_logprobs: Float[Array, "B T"]
    student_entropy: Float[Array, "B T"]


class GivenTokens(NamedTuple):
    """The tokens of responses and the hidden states that predict them.

    Attributes:
        hidden: final hidden states at the positions that predict `tokens`.
        head: output projection.
        tokens: tokens of the responses.
        response_mask: tokens that count (nonzero). Values off the mask are ignored.
        sequence_mask: sequences that count; `None`: all of them.
    """

    hidden: Float[Array, "B T D"]
    head: Float[Array, "D V"]
    tokens: Int[Array, "B T"]
    response_mask: Mask
    sequence_mask: SequenceMask | None


class Reduced(NamedTuple):
    """Reduces losses of tokens to one number; see `aggregate`."""

    reduction: str
    num_sequences: ScalarLike | None
    num_tokens: ScalarLike | None


def token_loss(
    on_logits: OnLogits,
    batch: GivenTokens,
    reduced: Reduced,
    per_token: Mapping[str, Float[Array, "B T"]],
    chunk_size: int,
    sharding: HeadSharding | None,
) -> PolicyLoss:
    """The sum of a loss over chunks of tokens, and its statistics.

    Args:
        on_logits: function of the logits and the arrays of a chunk. It returns the chunk's part of
            the loss and numbers per token. The arrays are `tokens`, `coefficients` (the weight of
            each token in the reduction) and those of `per_token`.
        batch: the tokens and the hidden states that predict them.
        reduced: reduction to one loss.
        per_token: further numbers of each token; they are set to 0 off the mask.
        chunk_size: tokens per chunk.
        sharding: how the products with the head are cut over a mesh.

    Returns:
        The loss and the statistics of `student_statistics`. The statistics are 0 off the mask and
        have no gradient.

    Raises:
        ValueError: an undefined reduction, a chunk without a token, or a vocabulary that does not
            divide over the mesh.
    """
    hidden, head, tokens, response_mask, sequence_mask = batch
    if sharding is not None:
        sharding.check(head.shape[1])
        head = sharding.head(head)
    response = response_mask.astype(bool)
    layout = chunk_layout(response.shape[0], response.shape[1], chunk_size)
    dtype = at_least_float32(wider(hidden.dtype, head.dtype))
    # Padding may hold NaN, which a zero weight would not remove.
    hidden = jnp.where(response[..., None], hidden, jnp.zeros([], hidden.dtype))
    fixed: dict[str, Any] = {
        "tokens": jnp.where(response, tokens, 0),
        "coefficients": token_coefficients(
            response,
            sequence_mask,
            dtype,
            **reduced._asdict(),
        ),
        **{name: jnp.where(response, x, 0.0).astype(dtype) for name, x in per_token.items()},
    }

    def without_heads(logits: Array, chunk: dict, heads: None) -> tuple[Array, dict]:
        del heads
        return on_logits(logits, chunk)

    scanned = chunked_loss(without_heads, layout, dtype, sharding)
    loss, statistics = scanned(hidden, head, fixed, None)
    statistics = {name: jnp.where(response, layout.join(x), 0.0) for name, x in statistics.items()}
    return PolicyLoss(loss, **jax.lax.stop_gradient(statistics))


def student_statistics(
    logits: Float[Array, "*chunk V"], logprobs: Float[Array, "*chunk"]
) -> dict[str, Float[Array, "*chunk"]]:
    """Statistics of each token for a `PolicyLoss`, without a gradient.

    Args:
        logits: logits of the student, divided by the temperature.
        logprobs: log-probabilities of its tokens, nats.

    Returns:
        Log-probability and entropy of each token, nats.
    """
    return {
        "student_logprobs": jax.lax.stop_gradient(logprobs),
        "student_entropy": entropy(log_probs(jax.lax.stop_gradient(logits))),
    }
