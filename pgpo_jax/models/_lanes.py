"""The programs of continuous batching: each lane of a batch decodes one response after another."""

from __future__ import annotations

import functools as ft
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key

from pgpo_jax.models._cache import Cache, Prompt
from pgpo_jax.models._decode import decode_step, prefill
from pgpo_jax.models._generate import Buffers, choose, ends, random_bits
from pgpo_jax.models._rows import Lanes, moved
from pgpo_jax.models._sharding import axis_parts, constrain
from pgpo_jax.models._step_weights import StepWeights, step_weights

# Largest number of steps in a stretch of decoding.
_STRETCH = 256


class Read(NamedTuple):
    """The arrays that all steps read, for R responses to B prompts.

    Attributes:
        weights: weights of a step.
        prompt: keys and values of the prompts, stored once.
        hidden: the final hidden state of each prompt, from which the first tokens are drawn.
        keys: one key per response.
    """

    weights: StepWeights
    prompt: Prompt
    hidden: Float[Array, "B D"]
    keys: Key[Array, " R"]


class LaneState(NamedTuple):
    """The state that decoding changes, for L lanes.

    Attributes:
        step: number of steps of this stretch.
        slot: slot of the cache that all lanes write next. The host sets it before a stretch.
        token: token that was chosen last and not fed to the model yet.
        done: lanes whose response has ended.
        fed: number of tokens of its response that each lane was fed.
        row: number in the batch of the response that each lane writes.
        seat: seat of each lane at its prompt; see `Lanes`.
        lane: lane in each seat.
        keys: key of the random numbers of each lane.
        tape: tokens that were chosen at each step of this stretch.
        cache: keys and values in a ring buffer; None where they are not needed.
    """

    step: Int[Array, ""]
    slot: Int[Array, ""]
    token: Int[Array, " L"]
    done: Bool[Array, " L"]
    fed: Int[Array, " L"]
    row: Int[Array, " L"]
    seat: Int[Array, " L"]
    lane: Int[Array, " S"]
    keys: Key[Array, " L"]
    tape: Buffers
    cache: Cache | None


class Report(NamedTuple):
    """The state that the host reads after a stretch; every process has all of it.

    Attributes:
        done: lanes whose response has ended.
        oldest: largest number of tokens that a lane which goes on was fed.
        slot: slot that all lanes write next.
        steps: number of steps of the stretch.
    """

    done: Bool[Array, " L"]
    oldest: Int[Array, ""]
    slot: Int[Array, ""]
    steps: Int[Array, ""]


class Until(NamedTuple):
    """Conditions that end a stretch, in addition to a full cache or tape.

    Attributes:
        waiting: number of responses of each part of the mesh that no lane has begun.
        enough: number of lanes that could begin a response; this many end a stretch.
        fewer: a stretch ends once each part has at most so many lanes that go on; 0: until all
            ended.
    """

    waiting: Int[Any, " parts"]
    enough: Int[Any, ""]
    fewer: Int[Any, ""]


@ft.partial(jax.jit, static_argnums=(0, 1, 2))
def begin(
    graphdef, settings, lanes: int, params, tokens, mask, keys
) -> tuple[Read, Buffers, LaneState]:
    """Run the prompts; allocate all responses and lanes without a response."""
    model = nnx.merge(graphdef, params)
    hidden, prompt = prefill(model, tokens, mask)
    read = Read(step_weights(model, lanes, tokens.shape[1] + settings.steps), prompt, hidden, keys)
    count, heads, width, _ = prompt.keys[0].shape
    rows = count * settings.samples
    dtype = prompt.keys[0].dtype
    depth = len(prompt.keys)
    cache = Cache(
        tuple(jnp.zeros((lanes, heads, width, 0), dtype) for _ in range(depth)),
        tuple(jnp.zeros((lanes, heads, 0, width), dtype) for _ in range(depth)),
        jnp.zeros((lanes, 0), jnp.bool_),
    )
    nothing = jnp.zeros(lanes, jnp.int32)
    state = LaneState(
        step=jnp.int32(0),
        slot=jnp.int32(0),
        token=nothing,
        done=jnp.ones(lanes, jnp.bool_),
        fed=nothing,
        row=nothing,
        seat=nothing,
        lane=jnp.zeros(rows, jnp.int32),
        keys=keys[:lanes],
        tape=_blank((lanes, min(_STRETCH, settings.steps - 1)), settings.pad),
        cache=cache,
    )
    whole = _blank((rows, settings.steps), settings.pad)
    laid_out = (constrain(x, ("batch", "length"), model.mesh) for x in whole)
    return read, Buffers(*laid_out), _laid_out(state, model.mesh)


@ft.partial(jax.jit, static_argnums=(0, 1), donate_argnums=6)
def admit(
    graphdef, settings, params, temperature, top_p, read: Read, whole: Buffers, state, rows
) -> tuple[Buffers, LaneState]:
    """Begin the responses `rows` in the lanes with their first tokens; -1 begins none.

    The cache is not needed, because a lane reads only slots that it has written itself.
    """
    model = nnx.merge(graphdef, params)
    begins = rows >= 0
    row = jnp.where(begins, rows, state.row)
    keys = read.keys[row]
    parts = axis_parts("batch", model.mesh)
    hidden = moved(jnp.repeat(read.hidden, settings.samples, axis=0), row, parts)
    step = jnp.zeros_like(row)
    bits = random_bits(keys, step, model.config.vocab_size)
    token, logprob = choose(model, settings, temperature, top_p, read.weights, hidden, bits)
    token = token.astype(jnp.int32)
    # Rows out of range are dropped.
    place = (jnp.where(begins, row, whole.mask.shape[0]), step)
    first = Buffers(token, logprob, begins)
    state = state._replace(
        token=jnp.where(begins, token, state.token),
        done=jnp.where(begins, ends(settings, token), state.done),
        fed=jnp.where(begins, 0, state.fed),
        row=row,
        seat=row,
        lane=state.lane.at[row].set(jnp.arange(len(row), dtype=jnp.int32)),
        keys=keys,
    )
    return _put(model.mesh, whole, place, first), _laid_out(state, model.mesh)


@ft.partial(jax.jit, static_argnums=(0, 1), donate_argnums=6)
def decode(
    graphdef, settings, params, temperature, top_p, read: Read, state: LaneState, until: Until
) -> tuple[LaneState, Report]:
    """Decode until the host has to decide something."""
    model = nnx.merge(graphdef, params)
    mesh, parts = model.mesh, axis_parts("batch", model.mesh)
    assert state.cache is not None
    slots, steps = state.cache.slots, state.tape.mask.shape[1]

    def goes_on(state: LaneState) -> Array:
        done = state.done.reshape(parts, -1)
        free = jnp.sum(done, axis=1, dtype=jnp.int32)
        able = jnp.sum(jnp.minimum(free, until.waiting))
        going = jnp.max(done.shape[1] - free)
        room = (state.step < steps) & (_oldest(state) < slots)
        return room & (able < until.enough) & (going > until.fewer)

    def advance(state: LaneState) -> LaneState:
        lanes = Lanes(state.fed, state.slot, state.seat, state.lane, parts)
        cache: Any = state.cache
        hidden, new = decode_step(model, read.weights, read.prompt, cache, state.token, lanes)
        bits = random_bits(state.keys, state.fed + 1, model.config.vocab_size)
        token, logprob = choose(model, settings, temperature, top_p, read.weights, hidden, bits)
        live = ~state.done
        token = jnp.where(live, token.astype(jnp.int32), settings.pad)
        column = Buffers(token, jnp.where(live, logprob, 0.0), live)
        fed = state.fed + live.astype(jnp.int32)
        # As in `decode` of `_generate`, this allows XLA to write in place.
        slot = state.slot + jnp.minimum(jnp.min(token), 0)

        def put(tape: Array, column: Array) -> Array:
            return jax.lax.dynamic_update_slice(tape, column[:, None], (jnp.int32(0), state.step))

        return state._replace(
            step=state.step + 1,
            slot=(state.slot + 1) % slots,
            token=token,
            # A token is chosen before the first is fed, so a response of N tokens was fed N - 1.
            done=state.done | ends(settings, token) | (fed + 1 >= settings.steps),
            fed=fed,
            tape=Buffers(*map(put, state.tape, column)),
            cache=cache.written(new, slot, mesh),
        )

    state = _laid_out(jax.lax.while_loop(goes_on, advance, state), mesh)
    report = Report(state.done, _oldest(state), state.slot, state.step)
    if mesh is None:
        return state, report
    everywhere = NamedSharding(mesh, PartitionSpec())
    return state, jax.lax.with_sharding_constraint(report, everywhere)


@ft.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def store(mesh: Mesh | None, pad: int, whole: Buffers, state: LaneState) -> tuple[Any, LaneState]:
    """Copy the tape into the responses and clear it."""
    tape = state.tape
    # The tape holds the last chosen tokens; for an ended lane, those before its end.
    first = state.fed + 1 - jnp.sum(tape.mask, axis=1, dtype=jnp.int32)
    place = (
        jnp.where(tape.mask, state.row[:, None], whole.mask.shape[0]),
        first[:, None] + jnp.arange(tape.mask.shape[1], dtype=jnp.int32),
    )
    clear = state._replace(step=jnp.int32(0), tape=_blank(tape.mask.shape, pad))
    return _put(mesh, whole, place, tape), _laid_out(clear, mesh)


@ft.partial(jax.jit, static_argnums=(0, 1, 2))
def drop(
    fewer: int, samples: int, mesh: Mesh | None, prompt: Prompt, state: LaneState
) -> tuple[Prompt, LaneState]:
    """Keep `fewer` lanes: those that go on, filled up with ended ones.

    If they are fewer than the prompts, each lane has its own copy of a prompt. A step then reads
    less.
    """
    parts = axis_parts("batch", mesh)
    order = jnp.argsort(state.done.reshape(parts, -1), axis=1, stable=True)
    start = jnp.arange(parts, dtype=order.dtype)[:, None] * order.shape[1]
    keep = (order[:, : fewer // parts] + start).ravel()
    seat, lane = state.seat[keep], jnp.arange(fewer, dtype=jnp.int32)
    if fewer < prompt.mask.shape[0]:
        prompt, seat = prompt.taken(seat // samples, mesh), lane
        lanes = lane
    else:
        lanes = state.lane.at[seat].set(lane)
    assert state.cache is not None
    kept = state._replace(
        token=state.token[keep],
        done=state.done[keep],
        fed=state.fed[keep],
        row=state.row[keep],
        seat=seat,
        lane=lanes,
        keys=state.keys[keep],
        tape=Buffers(*(x[keep] for x in state.tape)),
        cache=state.cache.taken(keep, mesh),
    )
    return prompt, _laid_out(kept, mesh)


def _oldest(state: LaneState) -> Int[Array, ""]:
    return jnp.max(jnp.where(state.done, 0, state.fed))


def _blank(shape: tuple[int, ...], pad: int) -> Buffers:
    return Buffers(
        jnp.full(shape, pad, jnp.int32), jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.bool_)
    )


def _put(mesh: Mesh | None, whole: Buffers, place: tuple[Array, Array], new: Buffers) -> Buffers:
    """`whole` with the new values at their places; places out of range are dropped."""
    return Buffers(
        *(
            constrain(old.at[place].set(x, mode="drop"), ("batch", "length"), mesh)
            for old, x in zip(whole, new, strict=True)
        )
    )


def _laid_out(state: LaneState, mesh: Mesh | None) -> LaneState:
    """The same state with one fixed sharding, so that a program is compiled once."""
    if mesh is None:
        return state

    def of_lanes(x: Array) -> Array:
        return constrain(x, ("batch", *(None,) * (x.ndim - 1)), mesh)

    everywhere = NamedSharding(mesh, PartitionSpec())
    step, slot = jax.lax.with_sharding_constraint((state.step, state.slot), everywhere)
    rest = {
        name: jax.tree.map(of_lanes, getattr(state, name))
        for name in ("token", "done", "fed", "row", "seat", "lane", "keys", "tape")
    }
    return state._replace(step=step, slot=slot, **rest)
