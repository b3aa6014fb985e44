"""Sampling: checks the arguments and returns the responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt32

from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from pgpo_jax.models._continuous import generate_in_lanes
from pgpo_jax.models._decoder import Decoder
from pgpo_jax.models._generate import Settings, generate


class Samples(NamedTuple):
    """Responses of `sample`. Row b * samples_per_prompt + g answers prompt b."""

    tokens: Int[Array, "R N"]
    """Token ids; `pad_id` after the end."""
    logprobs: Float[Array, "R N"]
    """Log-probability of each token in nats, under the tempered distribution before `top_k` and
    `top_p`; 0 after the end."""
    mask: Bool[Array, "R N"]
    """True at the tokens of the response, the end token included."""


def sample(
    model: Decoder,
    prompt_tokens: Int[Array | np.ndarray, "B P"],
    prompt_mask: Shaped[Array | np.ndarray, "B P"],
    key: Key[Array, ""] | Key[Array, " R"],
    *,
    max_new_tokens: int,
    temperature: float | int | np.floating | Float[Array, ""] = 1.0,
    top_p: float | int | np.floating | Float[Array, ""] = 1.0,
    top_k: int | None = None,
    eos_id: int | Sequence[int],
    pad_id: int,
    samples_per_prompt: int = 1,
    max_num_seqs: int | None = None,
) -> Samples:
    """Sample responses from softmax(logits / temperature), cut to `top_k`, then to `top_p`.

    Each prompt goes through the model once, and its keys and values are stored once, for any number
    of samples. The random numbers of a row depend on its own key only, which is `key` folded with
    the row's number. So a row's response does not depend on the rest of the batch. Other values of
    `temperature` and `top_p` do not recompile, but greedy, full and nucleus sampling are three
    programs. Each value of `top_k` has its own program.

    The filters act in the order of Hugging Face's `generate`. First the `top_k` most likely tokens
    are kept and renormalised, with every token exactly as likely as the last of them. Then the
    nucleus is kept: the smallest set of most likely tokens whose probability reaches `top_p`
    (arXiv:1904.09751). Tokens exactly as likely as its last member belong to it. The recorded
    log-probabilities are those before both filters.

    Args:
        model: the model.
        prompt_tokens: prompts, padded on either side.
        prompt_mask: 1 or True at real tokens. Every row has at least one.
        key: one key, or one key per row of the result, which is then used directly.
        max_new_tokens: largest number of tokens of a response, N.
        temperature: divides the logits. With 0 the most likely token is taken, and `logprobs` are
            those of temperature 1.
        top_p: probability mass of the nucleus, in (0, 1]. 1 keeps all tokens.
        top_k: number of most likely tokens to keep, at least 1. None, or at least the size of the
            vocabulary, keeps all.
        eos_id: the id or ids that end a response.
        pad_id: id in `tokens` after the end.
        samples_per_prompt: number of responses per prompt, G.
        max_num_seqs: number of responses that are decoded at a time (continuous batching; the name
            is vLLM's). When one has ended, a waiting one takes its place. None: all at a time. The
            tokens are the same for any number, up to rounding. It cannot be used inside `jax.jit`.

    Returns:
        Tokens, log-probabilities and mask.

    Raises:
        TypeError: a count or an id is not an int, or a key is not a typed key.
        ValueError: a setting is out of its range, a prompt has no tokens, or an id is outside the
            vocabulary. Or shapes or keys do not match, or rows do not divide over the mesh.

    >>> from flax import nnx
    >>> from pgpo_jax.models import Decoder, DecoderConfig
    >>> config = DecoderConfig(vocab_size=32, hidden_size=16, intermediate_size=32,
    ...     num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8)
    >>> model = Decoder(config, rngs=nnx.Rngs(0))
    >>> tokens = jnp.array([[1, 2, 3]])
    >>> out = sample(model, tokens, jnp.ones_like(tokens), jax.random.key(0), max_new_tokens=4,
    ...     eos_id=0, pad_id=0, samples_per_prompt=2)
    >>> out.tokens.shape
    (2, 4)
    """
    vocabulary = model.config.vocab_size
    eos = (eos_id,) if isinstance(eos_id, int | np.integer) else tuple(eos_id)
    for name, value, low, high in (
        ("max_new_tokens", max_new_tokens, 1, None),
        ("samples_per_prompt", samples_per_prompt, 1, None),
        ("pad_id", pad_id, 0, vocabulary),
        *(("eos_id", value, 0, vocabulary) for value in eos),
        *(() if top_k is None else (("top_k", top_k, 1, None),)),
        *(() if max_num_seqs is None else (("max_num_seqs", max_num_seqs, 1, None),)),
    ):
        _check_int(name, value, low, high)
    if not eos:
        raise PGPOValueError("eos_id must name at least one id.")
    _check_range("temperature", temperature, 0.0, None)
    _check_range("top_p", top_p, 0.0, 1.0, open_low=True)
    _check_prompts(prompt_tokens, prompt_mask, vocabulary)
    rows = prompt_tokens.shape[0] * samples_per_prompt
    if not jnp.issubdtype(getattr(key, "dtype", np.void), jax.dtypes.prng_key):
        raise PGPOTypeError(
            f"key must be a key of jax.random.key, got {key!r:.60}; jax.random.wrap_key_data makes "
            "one of a jax.random.PRNGKey."
        )
    if key.shape not in ((), (rows,)):
        raise PGPOValueError(
            f"key must be one key or one per row, {rows} = {prompt_tokens.shape[0]} prompts x "
            f"{samples_per_prompt} samples; got shape {key.shape}."
        )
    greedy = not isinstance(temperature, Tracer) and float(temperature) == 0.0
    # A value that changes nothing needs no other program.
    limited = top_k is not None and top_k < vocabulary and not greedy
    settings = Settings(
        steps=int(max_new_tokens),
        samples=int(samples_per_prompt),
        greedy=greedy,
        filtered=isinstance(top_p, Tracer) or float(top_p) < 1.0,
        eos=tuple(int(value) for value in eos),
        pad=int(pad_id),
        top_k=int(top_k) if limited and top_k is not None else None,
    )
    arguments = (
        jnp.asarray(prompt_tokens, jnp.int32),
        jnp.asarray(prompt_mask).astype(jnp.bool_),
        key if key.ndim else row_keys(key, np.arange(rows, dtype=np.uint32)),
        jnp.asarray(temperature, jnp.float32),
        jnp.asarray(top_p, jnp.float32),
    )
    # Responses of one token all end at once, so none would wait.
    if max_num_seqs is None or max_num_seqs >= rows or settings.steps == 1:
        return Samples(*generate(model, settings, *arguments))
    return Samples(*generate_in_lanes(model, settings, int(max_num_seqs), *arguments))


@jax.jit
def row_keys(key: Key[Array, ""], rows: UInt32[Array | np.ndarray, " R"]) -> Key[Array, " R"]:
    """The keys of some rows, by the rows' numbers in the whole batch.

    Args:
        key: key of the whole batch.
        rows: numbers of the rows.

    Returns:
        The argument `key` of `sample` for these rows alone.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, rows)


def _check_int(name: str, value: Any, low: int, high: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise PGPOTypeError(f"{name} must be an int, got {value!r}.")
    if value < low or (high is not None and value >= high):
        bound = f"at least {low}" if high is None else f"in [{low}, {high}) (the vocabulary)"
        raise PGPOValueError(f"{name} must be {bound}, got {value}.")


def _check_range(
    name: str, value: Any, low: float, high: float | None, *, open_low: bool = False
) -> None:
    if isinstance(value, Tracer):
        return
    number = float(value)
    inside = number > low if open_low else number >= low
    if not (inside and number < float("inf") and (high is None or number <= high)):
        bound = f"{'(' if open_low else '['}{low:g}, {'inf)' if high is None else f'{high:g}]'}"
        raise PGPOValueError(f"{name} must lie in {bound}, got {number}.")


def _check_prompts(tokens: Any, mask: Any, vocabulary: int) -> None:
    if any(isinstance(x, Tracer) for x in (tokens, mask)):
        return
    if any(isinstance(x, jax.Array) and not x.is_fully_addressable for x in (tokens, mask)):
        return
    tokens, mask = np.asarray(tokens), np.asarray(mask).astype(bool)
    if not mask.any(axis=1).all():
        raise PGPOValueError(
            "Every prompt needs at least one token; prompt_mask has none in row "
            f"{int(np.argmin(mask.any(axis=1)))}."
        )
    outside = mask & ((tokens < 0) | (tokens >= vocabulary))
    if outside.any():
        row, column = (int(x[0]) for x in np.nonzero(outside))
        raise PGPOValueError(
            f"prompt_tokens must lie in [0, {vocabulary}) (the vocabulary), got "
            f"{int(tokens[row, column])} at row {row}, position {column}."
        )
