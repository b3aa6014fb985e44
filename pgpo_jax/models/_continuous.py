"""Continuous batching: the decisions of the host between stretches of decoding."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models import _lanes
from pgpo_jax.models._decoder import Qwen3
from pgpo_jax.models._generate import Buffers, Settings, fewer_of, more_slots
from pgpo_jax.models._row_steps import count_row_steps
from pgpo_jax.models._sharding import axis_parts

# New responses are begun once one lane in this many is free. Each stretch costs about one step in
# addition to its own. A lane that waits costs its part of each step.
_REFILL = 16


class Waiting:
    """The responses that no lane has begun, in the part of the mesh that holds their prompt.

    All first samples come before all second ones, so that no question waits until the end.

    Args:
        prompts: number of prompts, B.
        samples: samples per prompt, G. Response b * G + g continues prompt b.
        parts: number of parts into which the mesh cuts prompts and lanes.
    """

    def __init__(self, prompts: int, samples: int, parts: int):
        rows = np.arange(prompts * samples, dtype=np.int32)
        by_part = rows.reshape(parts, prompts // parts, samples)
        self._rows = by_part.swapaxes(1, 2).reshape(parts, -1)
        self._begun = np.zeros(parts, np.int32)

    @property
    def counts(self) -> Int[np.ndarray, " parts"]:
        """Number of responses that wait in each part."""
        return (self._rows.shape[1] - self._begun).astype(np.int32)

    def take(self, free: Bool[np.ndarray, " L"]) -> Int[np.ndarray, " L"]:
        """The response that each free lane begins; -1 for other lanes and where nothing waits."""
        begun = np.full(free.shape, -1, np.int32)
        for part, lanes in enumerate(np.split(np.arange(len(free)), len(self._rows))):
            able = lanes[free[lanes]][: self.counts[part]]
            first = self._begun[part]
            begun[able] = self._rows[part, first : first + len(able)]
            self._begun[part] += len(able)
        return begun


def generate_in_lanes(
    model: Qwen3,
    settings: Settings,
    lanes: int,
    tokens: Int[Array, "B P"],
    mask: Bool[Array, "B P"],
    keys: Key[Array, " R"],
    temperature: Float[Array, ""],
    top_p: Float[Array, ""],
) -> Buffers:
    """Decode `lanes` responses at a time. When one ends, its lane begins a waiting one.

    Args:
        model: the model.
        settings: the static settings of decoding.
        lanes: number of lanes, fewer than the R = B * G responses and a multiple of the parts of
            the mesh.
        tokens: prompts, padded on either side.
        mask: True at real tokens.
        keys: one key per response.
        temperature: divides the logits.
        top_p: probability mass of the nucleus.

    Returns:
        The same as `generate`.

    Raises:
        ValueError: a call inside another program, or lanes that do not divide over the mesh.
    """
    if any(isinstance(x, Tracer) for x in (tokens, mask, keys, temperature, top_p)):
        raise PGPOValueError(
            "max_num_seqs must be None inside another program, where the host cannot give lanes "
            f"to responses that wait, got {lanes}."
        )
    mesh, parts = model.mesh, axis_parts("batch", model.mesh)
    if lanes % parts or tokens.shape[0] % parts:
        raise PGPOValueError(
            f"max_num_seqs and the prompts must divide over the mesh: data x fsdp = {parts}, got "
            f"{lanes} and {tokens.shape[0]}."
        )
    graphdef, params = nnx.split(model, nnx.Param)
    fixed = (graphdef, settings, params, temperature, top_p)
    read, whole, state = _lanes.begin(graphdef, settings, lanes, params, tokens, mask, keys)
    waiting = Waiting(tokens.shape[0], settings.samples, parts)
    done, oldest, slot, slots = np.ones(lanes, bool), 0, 0, 0
    while True:
        rows = waiting.take(done)
        if (rows >= 0).any():
            cache, bare = state.cache, state._replace(cache=None)
            whole, state = _lanes.admit(*fixed, read, whole, bare, rows)
            state = state._replace(cache=cache)
        if oldest == slots < settings.steps - 1:
            state, more = _with_more_slots(state, slot, slots, settings, mesh)
            slot, slots = slots, more
        left = waiting.counts
        enough = max(1, min(len(done) // _REFILL, int(left.sum())))
        fewer = 0 if left.any() else fewer_of(len(done), parts)
        until = _lanes.Until(left, np.int32(enough), np.int32(fewer // parts))
        # It always comes from the host, so that its layout is the same each time.
        state, report = _lanes.decode(*fixed, read, state._replace(slot=np.int32(slot)), until)
        done, *numbers = jax.device_get(report)
        oldest, slot, steps = (int(number) for number in numbers)
        count_row_steps(len(done), steps)
        cache, bare = state.cache, state._replace(cache=None)
        whole, state = _lanes.store(mesh, settings.pad, whole, bare)
        state = state._replace(cache=cache)
        if left.any():
            continue
        if done.all():
            return whole
        if np.max(np.sum(~done.reshape(parts, -1), axis=1)) <= fewer // parts:
            prompt, state = _lanes.drop(fewer, settings.samples, mesh, read.prompt, state)
            read, done = read._replace(prompt=prompt), np.zeros(fewer, bool)


def _with_more_slots(
    state: _lanes.LaneState, slot: int, slots: int, settings: Settings, mesh: Mesh | None
) -> tuple[_lanes.LaneState, int]:
    """The lanes with a longer ring, and its slots; the former ones come first, oldest first."""
    cache = state.cache
    assert cache is not None
    more = cache.even_slots(more_slots(slots, settings.steps), mesh)
    if slot:
        cache = cache.unrolled(slot, mesh)
    return state._replace(cache=cache.grown(more, mesh)), more
