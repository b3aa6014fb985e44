"""Numbers of next-token distributions, computed from hidden states without a gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pgpo_jax._categorical import (
    entropy,
    finite,
    log_probs,
    mixture_divergence,
    token_log_probs,
)
from pgpo_jax._reduce import Mask
from pgpo_jax.distillation._chunked import head_logits
from pgpo_jax.distillation._chunks import chunk_layout
from pgpo_jax.distillation._divergence import tempered
from pgpo_jax.distillation._head_sharding import HeadSharding
from pgpo_jax.distillation._teacher import trust_region_logits


def head_entropies(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "D V"],
    mask: Mask,
    *,
    temperature: float | int = 1.0,
    reference_hidden: Float[Array, "B T Dr"] | None = None,
    reference_head: Float[Array, "Dr V"] | None = None,
    trust_region_rate: float | int | None = None,
    chunk_size: int = 512,
    sharding: HeadSharding | None = None,
) -> Float[Array, "B T"]:
    """Entropies over the whole vocabulary, one chunk of tokens at a time, without a gradient.

    Args:
        hidden: final hidden states.
        head: output projection.
        mask: tokens that count (nonzero).
        temperature: divides the logits.
        reference_hidden: hidden states of the initial model, see `taught_head_loss`.
        reference_head: output projection of the initial model.
        trust_region_rate: share of `hidden` in the mixture of both, in [0, 1].
        chunk_size: tokens per chunk.
        sharding: how the products with the head are cut over a mesh.

    Returns:
        Entropies in nats, in float32 or wider; 0 off the mask.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> hidden, mask = jnp.zeros((1, 2, 4)), jnp.array([[1, 0]])
    >>> out = pgpo.distillation.head_entropies(hidden, jnp.eye(4), mask)
    >>> bool(jnp.allclose(out, jnp.array([[jnp.log(4.0), 0.0]])))
    True

    Added in version 0.2.0.
    """
    return _of_distributions(
        lambda logits, _: entropy(log_probs(logits)),
        hidden,
        head,
        mask,
        {},
        temperature=temperature,
        reference_hidden=reference_hidden,
        reference_head=reference_head,
        trust_region_rate=trust_region_rate,
        chunk_size=chunk_size,
        sharding=sharding,
    )


def head_logprobs(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "D V"],
    tokens: Int[Array, "B T"],
    mask: Mask,
    *,
    temperature: float | int = 1.0,
    reference_hidden: Float[Array, "B T Dr"] | None = None,
    reference_head: Float[Array, "Dr V"] | None = None,
    trust_region_rate: float | int | None = None,
    chunk_size: int = 512,
    sharding: HeadSharding | None = None,
) -> Float[Array, "B T"]:
    """Log-probabilities of given tokens, a chunk of tokens at a time, without a gradient.

    Args:
        hidden: final hidden states.
        head: output projection.
        tokens: one per state.
        mask: tokens that count (nonzero).
        temperature: see `head_entropies`, as are the others.
        reference_hidden: of the initial model.
        reference_head: of the initial model.
        trust_region_rate: share of `hidden` in the mixture of both.
        chunk_size: tokens per chunk.
        sharding: of the product with the head, on a mesh.

    Returns:
        Nats, in float32 or wider; 0 off the mask. A token that cannot be has the log of the
        smallest normal number.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> hidden, mask = jnp.zeros((1, 2, 4)), jnp.array([[1, 0]])
    >>> out = pgpo.distillation.head_logprobs(hidden, jnp.eye(4), jnp.array([[3, 3]]), mask)
    >>> bool(jnp.allclose(out, jnp.array([[-jnp.log(4.0), 0.0]])))
    True

    Added in version 0.2.0.
    """
    valid = mask.astype(bool)
    return _of_distributions(
        lambda logits, chunk: finite(token_log_probs(logits, chunk["tokens"])),
        hidden,
        head,
        mask,
        {"tokens": jnp.where(valid, tokens, 0)},
        temperature=temperature,
        reference_hidden=reference_hidden,
        reference_head=reference_head,
        trust_region_rate=trust_region_rate,
        chunk_size=chunk_size,
        sharding=sharding,
    )


def head_divergences(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "D V"],
    other_hidden: Float[Array, "B T Do"],
    other_head: Float[Array, "Do V"],
    mask: Mask,
    *,
    temperature: float | int = 1.0,
    chunk_size: int = 512,
    sharding: HeadSharding | None = None,
) -> Float[Array, "B T"]:
    """KL(own || other) over the whole vocabulary, a chunk of tokens at a time, without a gradient.

    Args:
        hidden: final hidden states.
        head: output projection.
        other_hidden: final hidden states of the other model.
        other_head: output projection of the other model.
        mask: tokens that count (nonzero).
        temperature: divides the logits of both.
        chunk_size: tokens per chunk.
        sharding: how the products with the heads are cut over a mesh.

    Returns:
        Divergences in nats, in float32 or wider; 0 off the mask.

    >>> import jax.numpy as jnp, pgpo_jax as pgpo
    >>> hidden, other = jnp.zeros((1, 1, 2)), jnp.log(jnp.array([[[0.9, 0.1]]]))
    >>> out = pgpo.distillation.head_divergences(
    ...     other, jnp.eye(2), hidden, jnp.eye(2), jnp.ones((1, 1))
    ... )
    >>> round(float(out[0, 0]), 4)
    0.3681

    Added in version 0.2.0.
    """
    projection = other_head if sharding is None else sharding.head(other_head)

    def divergence(logits: Array, chunk: dict[str, Array]) -> Array:
        other = tempered(head_logits(chunk["other"], projection, sharding), temperature)
        return mixture_divergence(log_probs(other), log_probs(logits), 0)

    valid = mask.astype(bool)[..., None]
    # Padding may hold NaN.
    others = jnp.where(valid, other_hidden, jnp.zeros([], other_hidden.dtype))
    return _of_distributions(
        divergence,
        hidden,
        head,
        mask,
        {"other": jax.lax.stop_gradient(others)},
        temperature=temperature,
        reference_hidden=None,
        reference_head=None,
        trust_region_rate=None,
        chunk_size=chunk_size,
        sharding=sharding,
    )


def _of_distributions(
    number: Callable[[Array, dict[str, Array]], Array],
    hidden: Float[Array, "B T D"],
    head: Float[Array, "D V"],
    mask: Mask,
    known: dict[str, Array],
    *,
    temperature: float | int,
    reference_hidden: Float[Array, "B T Dr"] | None,
    reference_head: Float[Array, "Dr V"] | None,
    trust_region_rate: float | int | None,
    chunk_size: int,
    sharding: HeadSharding | None,
) -> Float[Array, "B T"]:
    """(logits of a chunk over the temperature, what is `known` of its tokens) -> a number each."""
    valid = mask.astype(bool)
    layout = chunk_layout(valid.shape[0], valid.shape[1], chunk_size)
    states = {"own": hidden}
    heads = {"own": head if sharding is None else sharding.head(head)}
    if reference_hidden is not None and reference_head is not None:
        states["reference"] = reference_hidden
        heads["reference"] = reference_head if sharding is None else sharding.head(reference_head)

    def body(_: None, chunk: dict[str, Array]) -> tuple[None, Array]:
        logits = head_logits(chunk["own"], heads["own"], sharding)
        if trust_region_rate is not None:
            other = head_logits(chunk["reference"], heads["reference"], sharding)
            logits = trust_region_logits(other, logits, trust_region_rate)
        return None, number(tempered(logits, temperature), chunk)

    # Padding may hold NaN.
    states = {
        name: layout.split(jnp.where(valid[..., None], x, jnp.zeros([], x.dtype)))
        for name, x in jax.lax.stop_gradient(states).items()
    }
    states |= {name: layout.split(x) for name, x in known.items()}
    found = jax.lax.scan(body, None, states)[1]
    return jax.lax.stop_gradient(jnp.where(valid, layout.join(found), 0.0))
