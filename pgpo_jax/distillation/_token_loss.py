"""What the losses of one model share: given tokens, one head, a chunk of tokens at a time."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, ScalarLike

from pgpo_jax._precision import at_least_float32, wider
from pgpo_jax._reduce import Mask, SequenceMask
from pgpo_jax.distillation._aggregate import token_coefficients
from pgpo_jax.distillation._chunked import chunked_loss
from pgpo_jax.distillation._chunks import chunk_layout
from pgpo_jax.distillation._head_sharding import HeadSharding

OnLogits = Callable[[Array, dict[str, Array]], tuple[Array, dict[str, Array]]]


def token_loss(
    on_logits: OnLogits,
    hidden: Float[Array, "B T D"],
    head: Float[Array, "D V"],
    tokens: Int[Array, "B T"],
    response_mask: Mask,
    sequence_mask: SequenceMask | None,
    *,
    per_token: Mapping[str, Float[Array, "B T"]],
    reduction: str,
    num_sequences: ScalarLike | None,
    num_tokens: ScalarLike | None,
    chunk_size: int,
    sharding: HeadSharding | None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, "B T"]]]:
    """The sum of a loss over chunks of tokens, and its statistics.

    Args:
        on_logits: (logits of a chunk, what belongs to it) -> its part of the loss, and numbers per
            token. To a chunk belong `tokens`, `coefficients` (what a token counts in the
            reduction), and what `per_token` names.
        hidden: final hidden states at the positions that predict `tokens`.
        head: output projection.
        tokens: of the responses.
        response_mask: tokens that count (nonzero). Off the mask anything may stand.
        sequence_mask: sequences that count; `None`: all of them.
        per_token: further numbers of each token; 0 is put off the mask.
        reduction: see `aggregate`, as are `num_sequences` and `num_tokens`.
        num_sequences: true N of the batch that this is a part of.
        num_tokens: true token count.
        chunk_size: tokens per chunk.
        sharding: of the products with the head, on a mesh.

    Returns:
        The loss, and the statistics, 0 off the mask and without a gradient.

    Raises:
        ValueError: an undefined reduction, a chunk without a token, or a vocabulary that does not
            divide over the mesh.
    """
    if sharding is not None:
        sharding.check(head.shape[1])
        head = sharding.head(head)
    response = response_mask.astype(bool)
    layout = chunk_layout(response.shape[0], response.shape[1], chunk_size)
    dtype = at_least_float32(wider(hidden.dtype, head.dtype))
    # Padding may hold NaN, which a zero weight would not stop.
    hidden = jnp.where(response[..., None], hidden, jnp.zeros([], hidden.dtype))
    fixed: dict[str, Any] = {
        "tokens": jnp.where(response, tokens, 0),
        "coefficients": token_coefficients(
            response,
            sequence_mask,
            dtype,
            reduction=reduction,
            num_sequences=num_sequences,
            num_tokens=num_tokens,
        ),
        **{name: jnp.where(response, x, 0.0).astype(dtype) for name, x in per_token.items()},
    }

    def without_heads(logits: Array, chunk: dict, heads: None) -> tuple[Array, dict]:
        del heads
        return on_logits(logits, chunk)

    scanned = chunked_loss(without_heads, layout, dtype, sharding)
    loss, statistics = scanned(hidden, head, fixed, None)
    statistics = {name: jnp.where(response, layout.join(x), 0.0) for name, x in statistics.items()}
    return loss, jax.lax.stop_gradient(statistics)
