"""Continuous batching: the responses of a step, some at a time."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax.models import (
    _cache,
    _continuous,
    _generate,
    _lanes,
    counted_row_steps,
    init_lora,
    make_mesh,
    sample,
    with_lora,
)

ENDS, PAD = (3, 5, 7), 31
PROGRAMS = (_lanes.begin, _lanes.admit, _lanes.decode, _lanes.store, _lanes.drop)


def draw(model, prompts, key, **kw):
    """12 responses of at most 36 tokens, or as told."""
    settings = {"max_new_tokens": 36, "eos_id": ENDS, "pad_id": PAD, "samples_per_prompt": 3} | kw
    return sample(model, *prompts, key, **settings)


def assert_same(one, other):
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_allclose(one.logprobs, other.logprobs, atol=2e-5)


def test_the_number_of_lanes_changes_no_response(tiny_model, prompts, key):
    whole = draw(tiny_model, prompts, key)
    lengths = np.asarray(whole.mask).sum(axis=1)
    assert lengths.min() < 4
    assert lengths.max() == 36, "no long response: the test shows little"
    for lanes in (1, 5):
        assert_same(draw(tiny_model, prompts, key, max_num_seqs=lanes), whole)
    # The control: with another key hardly a response is the same.
    other = draw(tiny_model, prompts, jax.random.fold_in(key, 1), max_num_seqs=5)
    assert (np.asarray(other.tokens) != np.asarray(whole.tokens)).any(axis=1).sum() > 8


def test_as_many_lanes_as_responses_are_the_usual_programs(tiny_model, prompts, key):
    whole = draw(tiny_model, prompts, key)
    compiled = [program._cache_size() for program in (_generate.decode, *PROGRAMS)]
    for lanes in (12, 13, None):
        jax.tree.map(
            np.testing.assert_array_equal, draw(tiny_model, prompts, key, max_num_seqs=lanes), whole
        )
    assert [program._cache_size() for program in (_generate.decode, *PROGRAMS)] == compiled


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"top_p": 0.8, "temperature": 0.9},
        {"top_k": 6},
        {"top_k": 9, "top_p": 0.9},
        {"samples_per_prompt": 1, "lanes": (1, 3)},
        {"eos_id": 5, "max_new_tokens": 2},
    ],
    ids=str,
)
def test_in_all_ways_to_sample(tiny_model, prompts, key, settings):
    lanes = settings.get("lanes", (4,))
    settings = {name: value for name, value in settings.items() if name != "lanes"}
    whole = draw(tiny_model, prompts, key, **settings)
    for number in lanes:
        assert_same(draw(tiny_model, prompts, key, max_num_seqs=number, **settings), whole)


@pytest.mark.slow
def test_keys_of_rows_padding_and_bfloat16(build, tiny_config, tiny_model, prompts, key):
    tokens, mask = prompts
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(12))
    whole = draw(tiny_model, prompts, keys)
    assert_same(draw(tiny_model, prompts, keys, max_num_seqs=4), whole)
    lengths = mask.sum(axis=1)
    right = jax.vmap(jnp.roll)(tokens, lengths), jax.vmap(jnp.roll)(mask, lengths)
    assert not jnp.array_equal(right[1], mask)
    assert_same(draw(tiny_model, right, keys, max_num_seqs=4), whole)
    half = build(tiny_config, dtype=jnp.bfloat16)
    out = draw(half, prompts, key, max_num_seqs=4)
    assert out.logprobs.dtype == jnp.float32
    assert jnp.isfinite(out.logprobs).all()
    assert out.mask.any(axis=1).all()


@pytest.mark.slow
def test_with_adapted_kernels(tiny_model, prompts, key):
    graphdef, params = nnx.split(tiny_model, nnx.Param)
    factors = jax.tree.map(lambda x: x + 0.05, init_lora(params, 2, key=jax.random.key(1)))
    model = nnx.merge(graphdef, with_lora(params, factors, 0.5))
    whole = draw(model, prompts, key)
    assert_same(draw(model, prompts, key, max_num_seqs=5), whole)
    # The control: the factors do something.
    assert (draw(tiny_model, prompts, key).tokens != whole.tokens).any()


@pytest.mark.slow
@pytest.mark.parametrize(("fsdp", "tensor", "lanes"), [(4, 2, 8), (4, 2, 4), (2, 1, 6)])
def test_on_a_mesh(build, tiny_config, tiny_model, prompts, key, fsdp, tensor, lanes):
    mesh = make_mesh(fsdp=fsdp, tensor=tensor, devices=jax.devices()[: fsdp * tensor])
    model = build(tiny_config, mesh=mesh)
    whole = draw(tiny_model, prompts, key)
    assert_same(draw(model, prompts, key, max_num_seqs=lanes), whole)


@pytest.mark.slow
def test_on_a_mesh_a_lane_reads_no_other_device(build, tiny_config, prompts, key, monkeypatch):
    """What the devices of a mesh tell each other in a step is as with all rows at once."""
    model = build(tiny_config, mesh=make_mesh(fsdp=4, tensor=2))

    def told(module, lanes):
        decode, found = module.decode, []

        def watched(*args):
            if found:
                return decode(*args)
            text = decode.lower(*args).compile().as_text()
            for body in set(re.findall(r"while\(.*body=%?([\w.\-]+)", text)):
                step = re.search(rf"^%{re.escape(body)} .*?^}}", text, re.M | re.S)[0]
                kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
                found.extend(re.findall(rf" ({kinds})\(", step))
            return decode(*args)

        with monkeypatch.context() as patch:
            patch.setattr(module, "decode", watched)
            draw(model, prompts, key, max_num_seqs=lanes, max_new_tokens=8)
        return sorted(found)

    whole = told(_generate, None)
    assert whole
    assert told(_lanes, 8) == whole


def test_the_ring_turns_grows_and_is_unrolled(tiny_model, prompts, key, monkeypatch):
    def record(cache, slot, mesh):
        turned.append((int(slot), cache.slots))
        return unrolled(cache, slot, mesh)

    # A long response begins after some others.
    key = jax.random.fold_in(key, 7)
    whole = draw(tiny_model, prompts, key)
    unrolled, turned = _cache.Cache.unrolled, []
    monkeypatch.setattr(_cache.Cache, "unrolled", record)
    monkeypatch.setattr(_generate, "_FIRST_SLOTS", 5)
    monkeypatch.setattr(_lanes, "_STRETCH", 7)
    _lanes.begin.clear_cache()
    assert_same(draw(tiny_model, prompts, key, max_num_seqs=3), whole)
    # In the midst of a turn, or the test shows nothing.
    assert any(0 < slot < slots for slot, slots in turned)
    # The control: without it the lanes read slots of others.
    monkeypatch.setattr(_cache.Cache, "unrolled", lambda cache, slot, mesh: cache)
    wrong = draw(tiny_model, prompts, key, max_num_seqs=3)
    assert (np.asarray(wrong.tokens) != np.asarray(whole.tokens)).any()
    _lanes.begin.clear_cache()


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [8, 24])
def test_lanes_are_left_behind_when_nothing_waits(tiny_model, prompts, key, lanes, monkeypatch):
    settings = {"samples_per_prompt": 8, "max_new_tokens": 70}
    whole = draw(tiny_model, prompts, key, **settings)
    monkeypatch.setattr(_generate, "_FEWEST_ROWS", 1)
    widths = []
    decode = _lanes.decode

    def watched(*args):
        widths.append((len(args[6].token), args[5].prompt.mask.shape[0]))
        return decode(*args)

    monkeypatch.setattr(_lanes, "decode", watched)
    assert_same(draw(tiny_model, prompts, key, max_num_seqs=lanes, **settings), whole)
    # 24 lanes go to 6, which share the 4 prompts; fewer lanes than prompts have one each.
    expected = {8: [(8, 4), (2, 2)], 24: [(24, 4), (6, 4), (1, 1)]}[lanes]
    assert list(dict.fromkeys(widths)) == expected


def test_few_programs_are_compiled(tiny_model, prompts, key):
    for program in PROGRAMS:
        program.clear_cache()
    for seed in range(3):
        draw(tiny_model, prompts, jax.random.fold_in(key, seed), max_num_seqs=4)
    # One of each, whatever is refilled and when; the cache has one size up to 64 tokens.
    assert [program._cache_size() for program in PROGRAMS] == [1, 1, 1, 1, 0]


def test_fewer_row_steps_than_all_at_once(tiny_model, prompts, key):
    with counted_row_steps() as whole:
        out = draw(tiny_model, prompts, key)
    with counted_row_steps() as lanes:
        draw(tiny_model, prompts, key, max_num_seqs=5)
    # The last token of a response is never fed.
    fed = int((out.mask.sum(axis=1) - 1).sum())
    assert whole.total == 12 * 35
    assert fed <= lanes.total < 0.6 * whole.total


@pytest.mark.slow  # it reads the program that users get
def test_a_step_writes_its_ring_in_place(tiny_model, prompts, key, monkeypatch):
    decode, made = _lanes.decode, []

    def watched(*args):
        state = args[6]
        shapes = {",".join(map(str, x.shape)) for x in state.cache.keys + state.cache.values}
        text = decode.lower(*args).compile().as_text()
        for body in set(re.findall(r"while\(.*body=%?([\w.\-]+)", text)):
            step = re.search(rf"^%{re.escape(body)} .*?^}}", text, re.M | re.S)[0]
            made.append(re.findall(rf"%(\S+) = f32\[(?:{'|'.join(shapes)})\]", step))
        return decode(*args)

    monkeypatch.setattr(_lanes, "decode", watched)
    draw(tiny_model, prompts, key, max_num_seqs=5)
    step = max(made, key=len)
    writes = [name for name in step if "dynamic-update-slice" in name]
    others = [name for name in step if not re.match(r"get-tuple-element|param", name)]
    assert len(writes) == 2 * tiny_model.config.num_hidden_layers
    assert others == writes


def test_what_waits_is_taken_once_and_in_its_part():
    waiting = _continuous.Waiting(4, 3, 2)
    first = waiting.take(np.ones(4, bool))
    # First samples first; prompts 0 and 1 are of the first part, 2 and 3 of the second.
    assert first.tolist() == [0, 3, 6, 9]
    second = waiting.take(np.array([False, True, True, True]))
    assert second.tolist() == [-1, 1, 7, 10]
    assert waiting.counts.tolist() == [3, 2]
    rest = [waiting.take(np.ones(4, bool)).tolist() for _ in range(3)]
    assert rest == [[4, 2, 8, 11], [5, -1, -1, -1], [-1] * 4]


def test_bad_numbers_of_lanes(build, tiny_config, tiny_model, prompts, key):
    with pytest.raises(ValueError, match="max_num_seqs must be at least 1, got 0"):
        draw(tiny_model, prompts, key, max_num_seqs=0)
    with pytest.raises(TypeError, match="max_num_seqs must be an int, got True"):
        draw(tiny_model, prompts, key, max_num_seqs=True)
    with pytest.raises(ValueError, match="max_num_seqs must be None inside another program"):
        jax.jit(lambda key: draw(tiny_model, prompts, key, max_num_seqs=4).tokens)(key)
    meshed = build(tiny_config, mesh=make_mesh(fsdp=4, tensor=2))
    with pytest.raises(ValueError, match="divide over the mesh: data x fsdp = 4, got 6 and 4"):
        draw(meshed, prompts, key, max_num_seqs=6)
