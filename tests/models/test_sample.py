import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax.models import _cache, _generate as module, _step_weights, sample
from pgpo_jax.models._choose import (
    _limit,
    _outside,
    bits_of_a_draw,
    draw as choose_tokens,
    likeliest,
)
from pgpo_jax.models._race import block_width, in_blocks

EOS, PAD = 5, 0


def draw_tokens(logits, bits, **kw):
    return choose_tokens(logits, bits, **kw).token


def kept_by(logits, top_k=None, top_p=None):
    """Which tokens the filter of a draw lets through, asked of each token."""
    blocks = in_blocks(jnp.asarray(logits))
    mass = None if top_p is None else _limit(top_p, jnp.sum(blocks.sums(), axis=-1))

    def of_token(token):
        return ~_outside(blocks, jnp.full(len(logits), token), top_k, mass)[0]

    return np.asarray(jax.vmap(of_token)(jnp.arange(logits.shape[1]))).T


def draw(model, prompts, key, **kw):
    settings = {"max_new_tokens": 8, "eos_id": EOS, "pad_id": PAD, "samples_per_prompt": 3} | kw
    return sample(model, *prompts, key, **settings)


@pytest.fixture(scope="module")
def forward():
    return nnx.jit(lambda model, tokens, mask: jax.nn.log_softmax(model(tokens, mask)))


def of_a_full_forward(forward, model, prompts, out, temperature=1.0):
    """Log-probabilities of the sampled tokens by the whole sequence at once (left padding)."""
    tokens, mask = (jnp.repeat(x, len(out.tokens) // len(x), axis=0) for x in prompts)
    width = tokens.shape[1]
    tokens = jnp.concatenate([tokens, out.tokens], axis=1)
    mask = jnp.concatenate([mask, out.mask], axis=1)
    logprobs = jax.nn.log_softmax(forward(model, tokens, mask) / temperature)[:, width - 1 : -1]
    return jnp.take_along_axis(logprobs, out.tokens[..., None], axis=-1)[..., 0]


@pytest.mark.slow
def test_logprobs_are_those_of_a_full_forward(tiny_model, prompts, key, forward):
    for temperature, top_p in ((1.0, 1.0), (0.7, 1.0), (0.7, 0.5)):
        out = draw(tiny_model, prompts, key, temperature=temperature, top_p=top_p)
        whole = of_a_full_forward(forward, tiny_model, prompts, out, temperature)
        np.testing.assert_allclose(jnp.where(out.mask, whole, 0.0), out.logprobs, atol=2e-5)
    assert out.logprobs.dtype == jnp.float32
    # The control: at another temperature they differ.
    other = of_a_full_forward(forward, tiny_model, prompts, out, 1.0)
    assert jnp.abs(jnp.where(out.mask, other - out.logprobs, 0.0)).max() > 1e-2


@pytest.mark.slow
def test_greedy_takes_the_likeliest_and_reports_temperature_one(tiny_model, prompts, key, forward):
    out = draw(tiny_model, prompts, key, temperature=0.0, samples_per_prompt=1)
    tokens = jnp.concatenate([prompts[0], out.tokens], axis=1)
    mask = jnp.concatenate([prompts[1], out.mask], axis=1)
    logprobs = forward(tiny_model, tokens, mask)[:, 5:-1]
    best = jnp.where(out.mask, jnp.argmax(logprobs, axis=-1), PAD)
    np.testing.assert_array_equal(out.tokens, best)
    np.testing.assert_allclose(
        out.logprobs, jnp.where(out.mask, logprobs.max(axis=-1), 0.0), atol=2e-5
    )


def test_the_end_is_counted_and_what_follows_is_padding(tiny_model, prompts, key):
    out = draw(tiny_model, prompts, key, eos_id=(EOS, 6, 7), max_new_tokens=24, pad_id=31)
    tokens, mask = np.asarray(out.tokens), np.asarray(out.mask)
    ends = np.isin(tokens, (EOS, 6, 7)) & mask
    assert ends.any(), "no row ended: the test shows nothing"
    for row in range(len(tokens)):
        length = mask[row].sum()
        assert mask[row, :length].all()
        assert not ends[row, : length - 1].any()
        assert ends[row, length - 1] or length == 24
        assert (tokens[row, length:] == 31).all()
        assert (np.asarray(out.logprobs)[row, length:] == 0).all()


def test_padding_side_does_not_matter(tiny_model, prompts, key):
    tokens, mask = prompts
    lengths = mask.sum(axis=1)
    turned = jax.vmap(jnp.roll)(tokens, lengths), jax.vmap(jnp.roll)(mask, lengths)
    assert not jnp.array_equal(turned[1], mask)
    left, right = draw(tiny_model, prompts, key), draw(tiny_model, turned, key)
    np.testing.assert_array_equal(left.tokens, right.tokens)
    np.testing.assert_allclose(left.logprobs, right.logprobs, atol=2e-5)


@pytest.mark.slow
def test_a_row_depends_on_its_own_key_only(tiny_model, prompts, key):
    tokens, mask = prompts
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(12))
    everything = draw(tiny_model, prompts, keys)
    # One key is folded with the row.
    np.testing.assert_array_equal(everything.tokens, draw(tiny_model, prompts, key).tokens)
    turned = draw(
        tiny_model,
        (jnp.flip(tokens, axis=0), jnp.flip(mask, axis=0)),
        jnp.flip(keys.reshape(4, 3), axis=0).reshape(12),
    )
    back = np.flip(np.asarray(turned.tokens).reshape(4, 3, -1), axis=0).reshape(12, -1)
    np.testing.assert_array_equal(everything.tokens, back)
    changed = draw(tiny_model, (tokens.at[0].set(9), mask), keys)
    np.testing.assert_array_equal(everything.tokens[3:], changed.tokens[3:])
    longer = draw(tiny_model, prompts, key, max_new_tokens=10)
    np.testing.assert_array_equal(everything.tokens, longer.tokens[:, :8])
    # The samples of one prompt differ: keys are really used.
    assert len(np.unique(everything.tokens[6:9], axis=0)) == 3


@pytest.mark.slow
def test_samples_follow_the_distribution(tiny_model, prompts, forward):
    tokens, mask = (x[:1] for x in prompts)
    count = 4000
    truth = np.exp(np.asarray(forward(tiny_model, tokens, mask)[0, -1], np.float64))

    def chi_square(key, **kw):
        out = draw(
            tiny_model,
            (tokens, mask),
            key,
            max_new_tokens=1,
            samples_per_prompt=count,
            **kw,
        )
        seen = np.bincount(np.asarray(out.tokens[:, 0]), minlength=32)
        likely = truth * count > 5
        expected = np.append(truth[likely], truth[~likely].sum()) * count
        seen = np.append(seen[likely], seen[~likely].sum())
        return ((seen - expected) ** 2 / np.maximum(expected, 1)).sum(), likely.sum()

    value, freedom = chi_square(jax.random.key(3))
    bound = freedom + 5 * np.sqrt(2 * freedom)
    assert value < bound
    # The control: a temperature of 0.9 would be noticed.
    assert chi_square(jax.random.key(3), temperature=0.9)[0] > bound


def test_nucleus_is_the_smallest_set_that_reaches_the_mass():
    chances = np.random.default_rng(0).dirichlet(np.full(40, 0.3), 16).astype(np.float32)
    chances[0] = np.eye(40)[3]
    chances[1] = 1 / 40
    for top_p in (1e-6, 0.1, 0.5, 0.9, 0.999):
        with np.errstate(divide="ignore"):
            kept = kept_by(np.log(chances), top_p=top_p)
        for row, chance in zip(kept, chances, strict=True):
            order = np.sort(chance)[::-1]
            needed = order[np.searchsorted(np.cumsum(order, dtype=np.float64), top_p - 1e-7)]
            np.testing.assert_array_equal(row, chance >= needed * (1 - 1e-6))
    # The control: all are kept where all is asked for, however rare they are.
    assert kept_by(np.array([[0.0, -80.0, -np.inf]], np.float32), top_p=1.0)[0, :2].all()
    assert not kept_by(np.array([[0.0, -80.0]], np.float32), top_p=0.999)[0, 1]


def test_a_draw_never_lands_on_what_is_excluded(key):
    for vocabulary in (6, 32, 1000):
        logprobs = np.full((4096, vocabulary), -np.inf, np.float32)
        logprobs[:, [1, 4]] = np.log([0.25, 0.75])
        bits = jax.random.bits(key, (4096, bits_of_a_draw(vocabulary)), jnp.uint32)
        # The extremes, too.
        bits = bits.at[0].set(0).at[1].set(2**32 - 1)
        drawn = draw_tokens(jnp.asarray(logprobs), bits)
        assert set(drawn.tolist()) == {1, 4}
        assert abs(jnp.mean(drawn == 4) - 0.75) < 0.03


def variation(truth, count, drawn):
    """Total variation of draws from the truth, and what chance makes of it on average."""
    seen = np.bincount(drawn, minlength=len(truth)) / count
    noise = np.sqrt(2 * truth * (1 - truth) / (np.pi * count)).sum() / 2
    return np.abs(seen - truth).sum() / 2, noise


@pytest.mark.parametrize("vocabulary", [100, 300])
def test_draws_follow_the_distribution(key, vocabulary):
    logits = 3 * np.random.default_rng(0).standard_normal(vocabulary)
    truth = np.exp(logits - np.log(np.exp(logits).sum()))
    rows, count = 4096, 4096 * 32
    logprobs = jnp.broadcast_to(jnp.asarray(np.log(truth), jnp.float32), (rows, vocabulary))

    @jax.jit
    def drawn(key):
        def some(key):
            bits = jax.random.bits(key, (rows, bits_of_a_draw(vocabulary)), jnp.uint32)
            return draw_tokens(logprobs, bits)

        return jax.lax.map(some, jax.random.split(key, count // rows))

    tokens = np.asarray(drawn(key)).ravel()
    distance, noise = variation(truth, count, tokens)
    assert distance < 1.3 * noise
    # The control: a temperature of 0.97 would be noticed.
    warm = truth ** (1 / 0.97)
    distance, noise = variation(warm / warm.sum(), count, tokens)
    assert distance > 2 * noise


def test_every_token_of_a_large_vocabulary_can_be_drawn():
    vocabulary = 151_936
    logits = 3 * np.random.default_rng(0).standard_normal(vocabulary).astype(np.float32)
    logprobs = jax.nn.log_softmax(jnp.asarray(logits))
    rare, width = np.argsort(logits)[:16], block_width(vocabulary)
    # The one block and the one token that hardly wait.
    bits = np.full((16, bits_of_a_draw(vocabulary)), 2**32 - 1, np.uint32)
    bits[np.arange(16), rare // width] = 0
    bits[np.arange(16), vocabulary // width + rare % width] = 0
    drawn = draw_tokens(jnp.broadcast_to(logprobs, (16, vocabulary)), jnp.asarray(bits))
    np.testing.assert_array_equal(drawn, rare)
    # The control: in a running sum they vanish, so no number falls on them.
    total = np.asarray(jnp.cumsum(jnp.exp(logprobs)))
    assert (total[rare] <= np.maximum.accumulate(total)[rare - 1]).sum() > 8


def test_every_token_of_a_large_vocabulary_has_its_exact_chance():
    """The chance that a draw gives each token, computed of its own float32 sums."""
    vocabulary, width = 151_936, block_width(151_936)
    logits = 3 * np.random.default_rng(0).standard_normal(vocabulary).astype(np.float32)
    exact = np.exp(logits.astype(np.float64) - logits.max())
    exact /= exact.sum()
    blocks = in_blocks(jnp.asarray(logits)[None])
    sums, relative = np.asarray(blocks.sums()[0]), np.asarray(blocks.logits[0])
    within = np.exp(relative - relative.max(axis=-1, keepdims=True))
    within = within.astype(np.float64) / within.sum(axis=-1, keepdims=True, dtype=np.float64)
    given = (sums.astype(np.float64) / sums.sum(dtype=np.float64))[:, None] * within
    np.testing.assert_allclose(given.ravel()[:vocabulary], exact, rtol=3e-6)
    assert sums.size * width == vocabulary
    # The control: the running sum of float32 gives tens of thousands of tokens no chance at all.
    steps = np.diff(np.cumsum(exact.astype(np.float32)))
    assert (steps <= 0).sum() > 10_000


@pytest.mark.slow
def test_the_tail_beside_a_likely_token_is_drawn_in_full(key):
    """One token has .99 of the whole; a running sum loses a quarter of what is left."""
    vocabulary, rows, calls = 151_936, 64, 400
    chance = np.full(vocabulary, 0.01 / (vocabulary - 1))
    chance[100] = 0.99
    logprobs = jnp.broadcast_to(jnp.asarray(np.log(chance), jnp.float32), (rows, vocabulary))

    @jax.jit
    def tail(key):
        bits = jax.random.bits(key, (rows, bits_of_a_draw(vocabulary)), jnp.uint32)
        return jnp.sum(draw_tokens(logprobs, bits) != 100)

    seen = sum(int(tail(part)) for part in jax.random.split(key, calls))
    expected = 0.01 * rows * calls
    assert abs(seen - expected) < 3.5 * np.sqrt(expected)
    # The control: the loss would be noticed.
    assert 0.26 * expected > 3.5 * np.sqrt(expected)


def test_top_p_keeps_to_the_nucleus(tiny_model, prompts, key, forward):
    tokens, mask = (x[:1] for x in prompts)
    logprobs = forward(tiny_model, tokens, mask)[0, -1:]
    kept = kept_by(logprobs, top_p=0.5)[0]
    for top_p in (0.5, 1.0):
        out = draw(
            tiny_model, (tokens, mask), key, max_new_tokens=1, samples_per_prompt=4000, top_p=top_p
        )
        # Without the filter (the control) other tokens do appear.
        assert kept[np.asarray(out.tokens[:, 0])].all() == (top_p < 1)


def truncated(chance, top_k, top_p):
    """The distribution that is drawn from, with a sort: top-k, renormalised, then top-p."""
    order = np.argsort(-chance, kind="stable")
    kept = np.zeros_like(chance)
    kept[order[:top_k]] = chance[order[:top_k]]
    kept /= kept.sum()
    needed = np.searchsorted(np.cumsum(kept[order]), top_p) + 1
    kept[order[needed:]] = 0
    return kept / kept.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("top_k", "top_p"),
    [
        (8, 0.7),
        pytest.param(5, 1.0, marks=pytest.mark.slow),
        pytest.param(31, 1.0, marks=pytest.mark.slow),
    ],
)
def test_top_k_draws_from_the_truncated_distribution(tiny_model, prompts, forward, top_k, top_p):
    tokens, mask = (x[:1] for x in prompts)
    count = 4000
    chance = np.exp(np.asarray(forward(tiny_model, tokens, mask)[0, -1], np.float64))
    want = truncated(chance, top_k, top_p)

    def chi_square(**kw):
        """Over the tokens that may be drawn; infinite if another one was."""
        out = draw(
            tiny_model,
            (tokens, mask),
            jax.random.key(3),
            max_new_tokens=1,
            samples_per_prompt=count,
            **kw,
        )
        seen = np.bincount(np.asarray(out.tokens[:, 0]), minlength=32)
        drawn = np.asarray(out.tokens[:, 0])
        # Recorded is the whole distribution, not the truncated one.
        np.testing.assert_allclose(out.logprobs[:, 0], np.log(chance[drawn]), atol=2e-5)
        if seen[want == 0].any():
            return np.inf
        likely = want * count > 5
        expected = np.append(want[likely], want[~likely].sum()) * count
        seen = np.append(seen[likely], seen[~likely].sum())
        return ((seen - expected) ** 2 / np.maximum(expected, 1)).sum()

    freedom = (want * count > 5).sum()
    bound = freedom + 5 * np.sqrt(2 * freedom)
    assert chi_square(top_k=top_k, top_p=top_p) < bound
    # The controls: neither filter, or another number.
    assert chi_square() > bound
    assert chi_square(top_k=3, top_p=top_p) > bound


def frequencies(logits, key, rows=4096, **kw):
    """Shares of the tokens in draws from one row of logits."""
    vocabulary = len(logits)
    bits = jax.random.bits(key, (rows, bits_of_a_draw(vocabulary)), jnp.uint32)
    every = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (rows, vocabulary))
    drawn = jax.jit(functools.partial(draw_tokens, **kw))(every, bits)
    return np.bincount(np.asarray(drawn), minlength=vocabulary) / rows


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(None, 0.6), (9, None), (25, 0.8)], ids=["top_p", "top_k", "both"]
)
def test_filtered_draws_follow_the_truncated_distribution(key, top_k, top_p):
    """Most first draws fall outside, so that later rounds decide."""
    vocabulary, rows = 100, 2**14
    logits = 1.2 * np.random.default_rng(0).standard_normal(vocabulary)
    chance = np.exp(logits) / np.exp(logits).sum()
    want = truncated(chance, top_k or vocabulary, 1.0 if top_p is None else top_p)
    seen = frequencies(logits, key, rows, top_k=top_k, top_p=top_p)
    assert not seen[want == 0].any()
    noise = np.sqrt(2 * want * (1 - want) / (np.pi * rows)).sum() / 2
    assert np.abs(seen - want).sum() / 2 < 1.3 * noise
    # The controls: one token fewer, or a temperature of 0.9 among those that are kept.
    fewer = np.where(want == want[want > 0].min(), 0, want)
    assert seen[(fewer == 0) & (want > 0)].any()
    cold = np.where(want > 0, want ** (1 / 0.9), 0)
    assert np.abs(seen - cold / cold.sum()).sum() / 2 > 1.3 * noise


def test_top_k_comes_before_top_p(key):
    logits = np.log([0.1, 0.4, 0.2, 0.3])
    # Of the two likeliest the first has more than .55; of all four it has less.
    assert frequencies(logits, key, 64, top_k=2, top_p=0.55)[1] == 1
    # The control: in the other order both of the two would stay.
    assert set(np.flatnonzero(frequencies(logits, key, 64, top_p=0.55))) == {1, 3}


def test_a_draw_ends_whatever_the_logits_are(key):
    """Equal ones, ones without chance, and ones that are no numbers."""
    rows = np.zeros((4, 40), np.float32)
    rows[1, 1:] = -np.inf
    rows[2] = np.nan
    rows[3] = -1e4 * np.arange(40)
    bits = jax.random.bits(key, (4, bits_of_a_draw(40)), jnp.uint32)
    for kw in ({"top_p": 0.3}, {"top_p": 1e-6}, {"top_k": 1}, {"top_k": 3, "top_p": 0.5}):
        drawn = np.asarray(draw_tokens(jnp.asarray(rows), bits, **kw))
        assert (drawn[[1, 3]] == 0).all()
        assert ((drawn >= 0) & (drawn < 40)).all()


def test_the_likeliest_and_their_equals_are_kept():
    rng = np.random.default_rng(0)
    # Whole numbers: many are equal. One row is certain, one all equal, one underflows.
    logits = rng.integers(-6, 6, (16, 40)).astype(np.float32)
    logits[0], logits[1], logits[2] = np.where(np.arange(40) == 3, 0.0, -np.inf), 1.0, 0.0
    logits[2] = -30.0 * np.arange(40)
    logprobs = np.asarray(jax.nn.log_softmax(jnp.asarray(logits)))
    for k in (1, 2, 7, 39, 40):
        got = np.asarray(likeliest(jnp.asarray(logprobs), k))
        last = np.sort(logprobs, axis=-1)[:, [-k]]
        np.testing.assert_array_equal(np.isfinite(got), (logprobs >= last) & np.isfinite(logprobs))
        np.testing.assert_array_equal(got[np.isfinite(got)], logprobs[np.isfinite(got)])
        # The filter of a draw keeps the same ones.
        possible = kept_by(logprobs, top_k=k) & np.isfinite(logprobs)
        np.testing.assert_array_equal(possible, np.isfinite(got))
    # Exactly k where no two are equal.
    assert np.isfinite(np.asarray(likeliest(jnp.asarray(logprobs[2:3]), 7))).sum() == 7


@pytest.mark.slow
def test_one_likeliest_token_is_greedy(tiny_model, prompts, key):
    greedy = draw(tiny_model, prompts, key, temperature=0.0)
    one = draw(tiny_model, prompts, key, top_k=1)
    np.testing.assert_array_equal(one.tokens, greedy.tokens)
    np.testing.assert_array_equal(one.logprobs, greedy.logprobs)
    np.testing.assert_array_equal(
        draw(tiny_model, prompts, key, temperature=0.0, top_k=3).tokens, greedy.tokens
    )
    # The control: two of them are not.
    assert (draw(tiny_model, prompts, key, top_k=2).tokens != greedy.tokens).any()


@pytest.mark.slow
def test_top_k_of_the_whole_vocabulary_is_none(tiny_model, prompts, key):
    module.begin.clear_cache()
    for top_p in (1.0, 0.8):
        none = draw(tiny_model, prompts, key, top_p=top_p)
        programs = module.begin._cache_size()
        for top_k in (32, 33, 10**6):
            out = draw(tiny_model, prompts, key, top_p=top_p, top_k=top_k)
            jax.tree.map(np.testing.assert_array_equal, out, none)
        assert module.begin._cache_size() == programs
        # The control: one token fewer is another program.
        draw(tiny_model, prompts, key, top_p=top_p, top_k=31)
        assert module.begin._cache_size() == programs + 1


def test_with_64_bits_the_tokens_are_the_same(tiny_model, prompts, key):
    settings = {"temperature": 0.7, "top_p": 0.9, "top_k": 20}
    narrow = draw(tiny_model, prompts, key, **settings)
    with jax.enable_x64(True):
        wide = draw(tiny_model, prompts, key, **settings)
    for a, b in zip(narrow, wide, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_one_program_per_shape(tiny_model, prompts, key):
    programs = (module.begin, module.decode, _cache._wider)
    for program in programs:
        program.clear_cache()
    for temperature, top_p in ((1.0, 0.9), (0.5, 0.8), (np.float32(0.5), jnp.float32(0.3))):
        draw(tiny_model, prompts, key, temperature=temperature, top_p=top_p)
        draw(tiny_model, prompts, jax.random.fold_in(key, 1), temperature=temperature, top_p=top_p)
    graphdef, params = nnx.split(tiny_model, nnx.Param)
    moved = nnx.merge(graphdef, jax.tree.map(lambda x: x + 0.1, params))
    draw(moved, prompts, key, temperature=1.0, top_p=0.9)
    # Keys and values are made longer along different axes.
    assert [program._cache_size() for program in programs] == [1, 1, 2]


def test_a_cache_that_grows_changes_nothing(tiny_model, prompts, key, monkeypatch):
    def record(cache, *arguments):
        old.append(cache)
        return grow(cache, *arguments)

    once = draw(tiny_model, prompts, key)
    grow, old = _cache.Cache.grown, []
    monkeypatch.setattr(_cache.Cache, "grown", record)
    monkeypatch.setattr(module, "_FIRST_SLOTS", 4)
    grown = draw(tiny_model, prompts, key)
    # Twice, and what it grew out of is not kept beside it.
    assert len(old) == 2
    assert all(x.is_deleted() for cache in old for x in cache.keys + cache.values)
    np.testing.assert_array_equal(once.tokens, grown.tokens)
    np.testing.assert_allclose(once.logprobs, grown.logprobs, atol=1e-5)


@pytest.mark.slow
def test_rows_that_ended_are_left_behind_unseen(tiny_model, prompts, key, monkeypatch):
    settings = {"samples_per_prompt": 8, "max_new_tokens": 70, "eos_id": (3, EOS, 7, 11)}
    widths = []

    def watched(*args):
        state = decode(*args)
        widths.append(len(state.token))
        return state

    decode = module.decode
    monkeypatch.setattr(module, "decode", watched)
    dropped = draw(tiny_model, prompts, key, **settings)
    # 32 rows, then 8 once 24 have ended: fewer are never let go.
    assert set(widths) == {32, 8}
    monkeypatch.setattr(module, "_FEWEST_ROWS", 1000)
    kept = draw(tiny_model, prompts, key, **settings)
    assert widths[-1] == 32
    np.testing.assert_array_equal(dropped.tokens, kept.tokens)
    np.testing.assert_array_equal(dropped.mask, kept.mask)
    np.testing.assert_allclose(dropped.logprobs, kept.logprobs, atol=1e-5)


@pytest.mark.slow
def test_inside_another_program_no_row_is_left_behind(tiny_model, prompts, key):
    settings = {"samples_per_prompt": 8, "max_new_tokens": 70, "eos_id": (3, EOS, 7, 11)}
    kept = draw(tiny_model, prompts, key, **settings)
    inside = jax.jit(lambda *prompts: draw(tiny_model, prompts, key, **settings))(*prompts)
    np.testing.assert_array_equal(kept.tokens, inside.tokens)


@pytest.mark.slow
def test_prompts_are_read_once_for_all_their_samples(tiny_model, key):
    def flops(prompts, samples):
        graphdef, params = nnx.split(tiny_model, nnx.Param)
        settings = module.Settings(8, samples, False, False, (EOS,), PAD)
        tokens = jnp.ones((prompts, 64), jnp.int32)
        keys = jax.random.split(key, prompts * samples)
        one = jnp.float32(1)
        lowered = module.begin.lower(
            graphdef, settings, params, one, one, tokens, tokens.astype(bool), keys
        )
        return lowered.compile().cost_analysis()["flops"]

    # What is left is choosing the first token of each row.
    assert flops(2, 8) < 1.1 * flops(16, 1) / 8


@pytest.mark.slow  # it reads the program that users get
@pytest.mark.parametrize("samples", [1, 4])
def test_a_step_writes_its_cache_in_place(tiny_model, prompts, key, samples, monkeypatch):
    decode, made = module.decode, []

    def watched(*args):
        """Takes down what a step makes of the size of a cache."""
        state = args[-2]
        shapes = {",".join(map(str, x.shape)) for x in state.cache.keys + state.cache.values}
        text = decode.lower(*args).compile().as_text()
        # One loop is over the tokens, others draw their random bits.
        for body in set(re.findall(r"while\(.*body=%?([\w.\-]+)", text)):
            step = re.search(rf"^%{re.escape(body)} .*?^}}", text, re.M | re.S)[0]
            made.extend(re.findall(rf"%(\S+) = f32\[(?:{'|'.join(shapes)})\]", step))
        return decode(*args)

    monkeypatch.setattr(module, "decode", watched)
    draw(tiny_model, prompts, key, samples_per_prompt=samples)
    writes = [name for name in made if "dynamic-update-slice" in name]
    others = [name for name in made if not re.match(r"get-tuple-element|param", name)]
    assert len(writes) == 2 * tiny_model.config.num_hidden_layers
    assert others == writes


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_row_reads_every_kernel_in_halves(build, tiny_config, prompts, key, dtype, forward):
    # The feed-forward's second kernel has an odd number of inputs and stays whole.
    model = build(dataclasses.replace(tiny_config, intermediate_size=23), dtype=jnp.dtype(dtype))

    def halved(rows):
        read = _step_weights.step_weights(model, rows, 4)
        kernels = [x for w in read.layers for n, x in w._asdict().items() if "_proj" in n]
        return [isinstance(x, _step_weights.HalvedKernel) for x in (*kernels, read.head)]

    assert halved(1) == ([True] * 6 + [False]) * tiny_config.num_hidden_layers + [True]
    assert not any(halved(2))
    one = tuple(x[1:2] for x in prompts)
    out = draw(model, one, key, samples_per_prompt=1)
    whole = of_a_full_forward(forward, model, one, out)
    limit = 2e-5 if dtype == "float32" else 5e-2
    np.testing.assert_allclose(jnp.where(out.mask, whole, 0.0), out.logprobs, atol=limit)


def test_a_product_in_halves_is_the_product():
    rng = np.random.default_rng(0)
    row, kernel = (rng.normal(size=shape).astype(np.float32) for shape in ((1, 1, 6), (6, 5)))
    halves = jnp.asarray(kernel.reshape(2, 3, 5))
    product = jnp.asarray(row) @ _step_weights.HalvedKernel(halves)
    np.testing.assert_allclose(product, row @ kernel, atol=1e-6)
    # The control: the halves in the other order.
    turned = jnp.asarray(row) @ _step_weights.HalvedKernel(halves[::-1])
    assert np.abs(turned - row @ kernel).max() > 0.1


@pytest.mark.slow
def test_bfloat16(build, tiny_config, prompts, key):
    out = draw(build(tiny_config, dtype=jnp.bfloat16), prompts, key)
    assert out.logprobs.dtype == jnp.float32
    assert jnp.isfinite(out.logprobs).all()


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"temperature": -1.0}, ValueError, r"temperature must lie in \[0, inf\), got -1"),
        ({"temperature": float("nan")}, ValueError, "temperature"),
        ({"top_p": 0.0}, ValueError, r"top_p must lie in \(0, 1\], got 0"),
        ({"top_p": 1.5}, ValueError, "top_p.*got 1.5"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ({"top_k": 2.0}, TypeError, "top_k"),
        ({"top_k": True}, TypeError, "top_k must be an int, got True"),
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens must be at least 1, got 0"),
        ({"samples_per_prompt": 0}, ValueError, "samples_per_prompt must be at least 1"),
        ({"eos_id": 32}, ValueError, r"eos_id must be in \[0, 32\).*got 32"),
        ({"eos_id": ()}, ValueError, "eos_id must name at least one"),
        ({"pad_id": -1}, ValueError, "pad_id"),
        ({"max_new_tokens": True}, TypeError, "max_new_tokens must be an int, got True"),
    ],
)
def test_bad_settings(tiny_model, prompts, key, changes, error, match):
    with pytest.raises(error, match=match):
        draw(tiny_model, prompts, key, **changes)


def test_bad_prompts(tiny_model, prompts, key):
    tokens, mask = prompts
    with pytest.raises(ValueError, match="none in row 2"):
        draw(tiny_model, (tokens, mask.at[2].set(False)), key)
    with pytest.raises(ValueError, match=r"\[0, 32\) .*got 99 at row 1, position 4"):
        draw(tiny_model, (tokens.at[1, 4].set(99), mask), key)
    with pytest.raises(ValueError, match="12 = 4 prompts x 3 samples; got shape"):
        draw(tiny_model, prompts, jax.random.split(key, 5))
