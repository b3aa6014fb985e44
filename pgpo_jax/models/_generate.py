"""The programs behind `sample`: a prefill, stretches of decoding, and dropping rows that ended."""

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

# The cache starts with this many slots, or an eighth of what is asked for, and doubles: attention
# reads at most twice what is filled (after the first stretch), for at most four compiled loops.
_FIRST_SLOTS = 64
# Once no more than one row in this many goes on, only those are decoded further.
_DROP = 4
# With fewer rows than this a step is spent on reading the weights, which dropping does not change.
_FEWEST_ROWS = 8
# All random bits of a call are drawn at once where they are no more words than these. The cipher
# is a loop of its own, which costs a step as much as a layer where there are few rows.
_MOST_WORDS = 2**20


class Settings(NamedTuple):
    """What the compiled programs depend on besides shapes."""

    steps: int
    samples: int
    greedy: bool
    filtered: bool
    eos: tuple[int, ...]
    pad: int
    top_k: int | None = None


class Buffers(NamedTuple):
    """What has been sampled so far, a row per response."""

    tokens: Int[Array, "R N"]
    logprobs: Float[Array, "R N"]
    mask: Bool[Array, "R N"]


class State(NamedTuple):
    """Everything that a stretch of decoding changes or reads, for the rows that it decodes."""

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
    """Decodes until every row has ended or has its N tokens.

    The host looks on between stretches only: when the cache is full, and when few enough rows go
    on to leave the others behind. Inside another program it cannot, and all rows stay.

    Args:
        model: the model.
        settings: the static settings.
        tokens: prompts, padded on either side.
        mask: True at real tokens.
        keys: one per row.
        temperature: divides the logits.
        top_p: mass of the nucleus.

    Returns:
        Tokens, log-probabilities and mask, every row at its place.
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
    """The next size of a cache that has `slots` of them, at most what `steps` tokens need."""
    return min(max(2 * slots, _FIRST_SLOTS, -(-steps // 8)), steps - 1)


def _fewer_rows(model: Qwen3, state: State) -> int:
    """To how many rows `drop` would go, or 0 where that would not pay."""
    rows, slots = state.token.shape[0], state.cache.values[0].shape[2]
    prompts, length = state.prompt.mask.shape
    fewer = fewer_of(rows, axis_parts("batch", model.mesh))
    # Rows of one prompt share its keys; afterwards each has a copy. Worth it if a step reads less.
    return fewer if fewer * (length + slots) < prompts * length + rows * slots else 0


def fewer_of(rows: int, parts: int) -> int:
    """How many rows stay when the ended ones are left behind, or 0: too few for each part."""
    fewer = rows // _DROP
    return 0 if fewer < _FEWEST_ROWS or fewer % parts else fewer


@ft.partial(jax.jit, static_argnums=(0, 1))
def begin(
    graphdef, settings, params, temperature, top_p, tokens, mask, keys
) -> tuple[State, StepWeights]:
    """Runs the prompts and takes the first token of each row; and what every step then reads."""
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
    """Steps until the cache is full, or no more than `fewer` rows go on (0: until all ended)."""
    model = nnx.merge(graphdef, params)
    # The last token is chosen, but never fed.
    slots = min(state.cache.slots, settings.steps - 1)

    def goes_on(state: State) -> Array:
        going = jnp.sum(~state.done, dtype=jnp.int32)
        return (state.step <= slots) & (going > fewer)

    def advance(state: State) -> State:
        fed = state.step - 1
        rows = Aligned(fed)
        hidden, new = decode_step(model, weights, state.prompt, state.cache, state.token, rows)
        state = _emit(model, settings, temperature, top_p, weights, state, hidden)
        # No token is negative, so the slot is the next one. But that the write waits for the
        # chosen tokens, and so for the step's last read, lets XLA write in place: where it cannot
        # tell, it copies every cache at every step.
        slot = fed + jnp.minimum(jnp.min(state.token), 0)
        return state._replace(cache=state.cache.written(new, slot, model.mesh))

    return jax.lax.while_loop(goes_on, advance, state)


def _emit(
    model, settings, temperature, top_p, weights: StepWeights, state: State, hidden: Array
) -> State:
    """Chooses the next token of each row from its hidden state and writes it down."""
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
    """The next token of each row, and its log-probability before the filters.

    Args:
        model: the model.
        settings: the static settings.
        temperature: divides the logits.
        top_p: mass of the nucleus.
        weights: see `step_weights`.
        hidden: the final hidden state of the row's last token.
        bits: see `random_bits`; greedy sampling reads none.

    Returns:
        Token ids, and nats.
    """
    logits = constrain(weights.logits(hidden), ("batch", "vocab"), model.mesh)
    if settings.greedy:
        return greedy(logits)
    # What is recorded stays the whole distribution's.
    within = top_p if settings.filtered else None
    return draw(logits / temperature, bits, top_k=settings.top_k, top_p=within)


def ends(settings: Settings, token: Int[Array, " R"]) -> Bool[Array, " R"]:
    """Which tokens end a response."""
    return jnp.any(token[:, None] == jnp.asarray(settings.eos, jnp.int32), axis=1)


def random_bits(
    keys: Key[Array, " R"], step: Int[Array, "*every"], vocabulary: int
) -> UInt32[Array, "R W"]:
    """The random bits of a step, from each row's own key.

    They are few: noise for every token would cost more than the rest of the choice.

    Args:
        keys: one per row.
        step: the place of the token in its response, the same for all rows or one per row.
        vocabulary: V.

    Returns:
        W = `bits_of_a_draw(V)` words per row.
    """

    def of_row(key: Key[Array, ""], step: Int[Array, ""]) -> Array:
        return jax.random.bits(
            jax.random.fold_in(key, step), (bits_of_a_draw(vocabulary),), jnp.uint32
        )

    return jax.vmap(of_row, (0, 0 if step.ndim else None))(keys, step)


def _bits_ahead(model: Qwen3, settings: Settings, keys: Key[Array, " R"]) -> Array | None:
    """The `random_bits` of every step of one device, or None: too many, or none are read."""
    words = len(keys) * settings.steps * bits_of_a_draw(model.config.vocab_size)
    one_device = model.mesh is None or model.mesh.size == 1
    if settings.greedy or words > _MOST_WORDS or not one_device:
        return None
    steps = jnp.arange(settings.steps, dtype=jnp.int32)
    every = ft.partial(random_bits, keys, vocabulary=model.config.vocab_size)
    return jax.vmap(every, out_axes=1)(steps)


@ft.partial(jax.jit, static_argnums=0)
def store(mesh: Any, whole: Buffers | None, state: State) -> Buffers:
    """`whole` with the rows of the state at their places; None while all rows are in the state."""

    def put(x: Array, rows: Array) -> Array:
        return constrain(x.at[state.origin].set(rows), ("batch", "length"), mesh)

    if whole is None:
        return Buffers(*(constrain(x, ("batch", "length"), mesh) for x in state.buffers))
    return jax.tree.map(put, whole, state.buffers)


@ft.partial(jax.jit, static_argnums=(0, 1))
def drop(rows: int, mesh: Any, whole: Buffers | None, state: State) -> tuple[Buffers, State]:
    """Stores all rows, and keeps `rows` of them: those that go on, filled up with ended ones."""
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
