"""The programs behind `sample`: prefill, stretches of decoding, and removal of rows that ended."""

from __future__ import annotations

import functools as ft
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from pgpo_jax.models._cache import Cache, Prompt, start_cache
from pgpo_jax.models._choose import bits_of_a_draw, draw, greedy
from pgpo_jax.models._decode import decode_step, prefill
from pgpo_jax.models._decoder import Qwen3
from pgpo_jax.models._row_steps import count_row_steps
from pgpo_jax.models._rows import Aligned
from pgpo_jax.models._sharding import axis_parts, constrain
from pgpo_jax.models._step_weights import StepWeights, step_weights

# The cache starts with this many slots, or an eighth of those needed, and doubles. So after the
# first stretch attention reads at most twice the filled slots. At most four loops are compiled.
_FIRST_SLOTS = 64
# Once at most one row in this many goes on, only those rows are decoded further.
_DROP = 4
# With fewer rows than this a step mostly reads the weights, so removing rows saves nothing.
_FEWEST_ROWS = 8
# All random bits of a call are drawn at once if they are at most this many words. The cipher is a
# loop of its own. With few rows it costs as much as a layer at each step.
_MOST_WORDS = 2**20


class Settings(NamedTuple):
    """Static settings of the compiled programs, in addition to shapes."""

    steps: int
    samples: int
    greedy: bool
    filtered: bool
    eos: tuple[int, ...]
    pad: int
    top_k: int | None = None


class Buffers(NamedTuple):
    """The tokens sampled so far, one row per response."""

    tokens: Int[Array, "R N"]
    logprobs: Float[Array, "R N"]
    mask: Bool[Array, "R N"]


class State(NamedTuple):
    """State of a stretch of decoding, for the rows that it decodes."""

    step: Int[Array, ""]
    token: Int[Array, " R"]
    done: Bool[Array, " R"]
    origin: Int[Array, " R"]
    keys: Key[Array, " R"]
    bits: UInt32[Array, "R N W"] | None
    buffers: Buffers
    prompt: Prompt
    cache: Cache


def generate(
    model: Qwen3,
    settings: Settings,
    tokens: Int[Array, "B P"],
    mask: Bool[Array, "B P"],
    keys: Key[Array, " R"],
    temperature: Float[Array, ""],
    top_p: Float[Array, ""],
) -> Buffers:
    """Decode until every row has ended or has its N tokens.

    The host acts between stretches only: when the cache is full, and when few enough rows go on to
    remove the others. Inside another program it cannot act, and all rows stay.

    Args:
        model: the model.
        settings: the static settings of decoding.
        tokens: prompts, padded on either side.
        mask: True at real tokens.
        keys: one key per row.
        temperature: divides the logits.
        top_p: probability mass of the nucleus.

    Returns:
        Tokens, log-probabilities and mask, with the rows in their original order.
    """
    graphdef, params = nnx.split(model, nnx.Param)
    fixed = (graphdef, settings, params, temperature, top_p)
    state, weights = begin(*fixed, tokens, mask, keys)
    blind = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(state))
    whole, last = None, settings.steps - 1
    slots = filled = 0
    while filled < last:
        if filled == slots:
            slots = state.cache.even_slots(more_slots(slots, settings.steps), model.mesh)
            state = state._replace(cache=state.cache.grown(slots, model.mesh))
        fewer = 0 if blind else _fewer_rows(model, state)
        state = decode(*fixed, weights, state, jnp.int32(fewer))
        if blind:
            filled = min(slots, last)
            continue
        step, going = jax.device_get((state.step, jnp.sum(~state.done)))
        count_row_steps(state.token.shape[0], int(step) - 1 - filled)
        if going == 0:
            break
        # Token t is fed at step t + 1, so N tokens need N - 1 slots.
        filled = int(step) - 1
        if going <= fewer:
            whole, state = drop(fewer, model.mesh, whole, state)
    return store(model.mesh, whole, state)


def more_slots(slots: int, steps: int) -> int:
    """The next size of a cache of `slots` slots, at most the size that `steps` tokens need."""
    return min(max(2 * slots, _FIRST_SLOTS, -(-steps // 8)), steps - 1)


def _fewer_rows(model: Qwen3, state: State) -> int:
    """The number of rows that `drop` would keep, or 0 if dropping saves nothing."""
    rows, slots = state.token.shape[0], state.cache.values[0].shape[2]
    prompts, length = state.prompt.mask.shape
    fewer = fewer_of(rows, axis_parts("batch", model.mesh))
    # Rows of one prompt share its keys. After dropping, each has a copy. This helps only if a step
    # then reads less.
    return fewer if fewer * (length + slots) < prompts * length + rows * slots else 0


def fewer_of(rows: int, parts: int) -> int:
    """The number of rows to keep when ended ones are removed; 0 to remove none."""
    fewer = rows // _DROP
    return 0 if fewer < _FEWEST_ROWS or fewer % parts else fewer


@ft.partial(jax.jit, static_argnums=(0, 1))
def begin(
    graphdef, settings, params, temperature, top_p, tokens, mask, keys
) -> tuple[State, StepWeights]:
    """Run the prompts and draw the first token of each row; also return the weights of a step."""
    model = nnx.merge(graphdef, params)
    rows = tokens.shape[0] * settings.samples

    hidden, prompt = prefill(model, tokens, mask)
    prompt, cache = start_cache(prompt, settings.samples)
    shape = (rows, settings.steps)
    state = State(
        jnp.int32(0),
        jnp.zeros(rows, jnp.int32),
        jnp.zeros(rows, jnp.bool_),
        jnp.arange(rows, dtype=jnp.int32),
        keys,
        _bits_ahead(model, settings, keys),
        Buffers(
            jnp.full(shape, settings.pad, jnp.int32),
            jnp.zeros(shape, jnp.float32),
            jnp.zeros(shape, jnp.bool_),
        ),
        prompt,
        cache,
    )
    hidden = jnp.repeat(hidden, settings.samples, axis=0)
    weights = step_weights(model, rows, tokens.shape[1] + settings.steps)
    return _emit(model, settings, temperature, top_p, weights, state, hidden), weights


@ft.partial(jax.jit, static_argnums=(0, 1), donate_argnums=6)
def decode(graphdef, settings, params, temperature, top_p, weights, state, fewer) -> State:
    """Decode until the cache is full or at most `fewer` rows go on (0: until all ended)."""
    model = nnx.merge(graphdef, params)
    # The last token is chosen but never fed to the model.
    slots = min(state.cache.slots, settings.steps - 1)

    def goes_on(state: State) -> Array:
        going = jnp.sum(~state.done, dtype=jnp.int32)
        return (state.step <= slots) & (going > fewer)

    def advance(state: State) -> State:
        fed = state.step - 1
        rows = Aligned(fed)
        hidden, new = decode_step(model, weights, state.prompt, state.cache, state.token, rows)
        state = _emit(model, settings, temperature, top_p, weights, state, hidden)
        # No token is negative, so the slot is the next one. The sum makes the write wait for the
        # chosen tokens, and so for the last read of the step. Only then does XLA write in place.
        # Otherwise it copies every cache at every step.
        slot = fed + jnp.minimum(jnp.min(state.token), 0)
        return state._replace(cache=state.cache.written(new, slot, model.mesh))

    return jax.lax.while_loop(goes_on, advance, state)


def _emit(
    model, settings, temperature, top_p, weights: StepWeights, state: State, hidden: Array
) -> State:
    """Choose the next token of each row from its hidden state and record it."""
    if state.bits is None:
        bits = random_bits(state.keys, state.step, model.config.vocab_size)
    else:
        bits = jax.lax.dynamic_index_in_dim(state.bits, state.step, 1, keepdims=False)
    token, chosen = choose(model, settings, temperature, top_p, weights, hidden, bits)
    token = jnp.where(state.done, settings.pad, token.astype(jnp.int32))
    row = Buffers(token, jnp.where(state.done, 0.0, chosen), ~state.done)
    ended = ends(settings, token)

    def put(buffer: Array, column: Array) -> Array:
        return jax.lax.dynamic_update_slice(buffer, column[:, None], (jnp.int32(0), state.step))

    return state._replace(
        step=state.step + 1,
        token=token,
        done=state.done | ended,
        buffers=Buffers(*map(put, state.buffers, row)),
    )


def choose(
    model: Qwen3,
    settings: Settings,
    temperature: Float[Array, ""],
    top_p: Float[Array, ""],
    weights: StepWeights,
    hidden: Float[Array, "R D"],
    bits: UInt32[Array, "R W"],
) -> tuple[Int[Array, " R"], Float[Array, " R"]]:
    """The next token of each row and its log-probability before the filters.

    Args:
        model: the model.
        settings: the static settings of decoding.
        temperature: divides the logits.
        top_p: probability mass of the nucleus.
        weights: weights of a step, see `step_weights`.
        hidden: the final hidden state of the row's last token.
        bits: bits of `random_bits`; greedy sampling reads none.

    Returns:
        Token ids, and log-probabilities in nats.
    """
    logits = constrain(weights.logits(hidden), ("batch", "vocab"), model.mesh)
    if settings.greedy:
        return greedy(logits)
    # What is recorded stays the whole distribution's.
    within = top_p if settings.filtered else None
    return draw(logits / temperature, bits, top_k=settings.top_k, top_p=within)


def ends(settings: Settings, token: Int[Array, " R"]) -> Bool[Array, " R"]:
    """True at the tokens that end a response."""
    return jnp.any(token[:, None] == jnp.asarray(settings.eos, jnp.int32), axis=1)


def random_bits(
    keys: Key[Array, " R"], step: Int[Array, "*every"], vocabulary: int
) -> UInt32[Array, "R W"]:
    """The random bits of a step, from each row's own key.

    A row needs few of them. Noise for every token would cost more than the rest of the choice.

    Args:
        keys: one key per row.
        step: the position of the token in its response, one for all rows or one per row.
        vocabulary: number of words, V.

    Returns:
        W = `bits_of_a_draw(V)` words per row.
    """

    def of_row(key: Key[Array, ""], step: Int[Array, ""]) -> Array:
        return jax.random.bits(
            jax.random.fold_in(key, step), (bits_of_a_draw(vocabulary),), jnp.uint32
        )

    return jax.vmap(of_row, (0, 0 if step.ndim else None))(keys, step)


def _bits_ahead(model: Qwen3, settings: Settings, keys: Key[Array, " R"]) -> Array | None:
    """The `random_bits` of all steps of one device; None if they are too many or not needed."""
    words = len(keys) * settings.steps * bits_of_a_draw(model.config.vocab_size)
    one_device = model.mesh is None or model.mesh.size == 1
    if settings.greedy or words > _MOST_WORDS or not one_device:
        return None
    steps = jnp.arange(settings.steps, dtype=jnp.int32)
    every = ft.partial(random_bits, keys, vocabulary=model.config.vocab_size)
    return jax.vmap(every, out_axes=1)(steps)


@ft.partial(jax.jit, static_argnums=0)
def store(mesh: Any, whole: Buffers | None, state: State) -> Buffers:
    """`whole` with the rows of the state at their places; None while the state has all rows."""

    def put(x: Array, rows: Array) -> Array:
        return constrain(x.at[state.origin].set(rows), ("batch", "length"), mesh)

    if whole is None:
        return Buffers(*(constrain(x, ("batch", "length"), mesh) for x in state.buffers))
    return jax.tree.map(put, whole, state.buffers)


@ft.partial(jax.jit, static_argnums=(0, 1))
def drop(rows: int, mesh: Any, whole: Buffers | None, state: State) -> tuple[Buffers, State]:
    """Store all rows, and keep `rows` of them: those that go on, filled up with ended ones."""
    keep = jnp.argsort(state.done, stable=True)[:rows]
    samples = state.done.shape[0] // state.prompt.mask.shape[0]
    kept = state._replace(
        token=state.token[keep],
        done=state.done[keep],
        origin=state.origin[keep],
        keys=state.keys[keep],
        bits=None if state.bits is None else state.bits[keep],
        buffers=Buffers(*(x[keep] for x in state.buffers)),
        prompt=state.prompt.taken(keep // samples, mesh),
        cache=state.cache.taken(keep, mesh),
    )
    return store(mesh, whole, state), kept
