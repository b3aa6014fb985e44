"""The shift of beliefs in sampled answers, and the choice of groups inside a compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgpo_jax.information import (
    belief_shift,
    group_belief_shift,
    largest_share,
    largest_share_of_groups,
)

SIZES = (3, 1, 4, 2)


def shuffled(seed):
    """Answers to four questions in any order, one said twice and one that is not there."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(4), SIZES)
    scores = rng.normal(size=(2, 10)) - 5
    order = rng.permutation(12)
    group = np.append(group, [2, 3])[order]
    # The same as the first answer to question 2, and one of padding.
    scores = np.concatenate([scores, scores[:, 4:5], np.full((2, 1), 99.0)], axis=1)[:, order]
    counted = (np.arange(12) < 10)[order]
    there = (np.arange(12) < 11)[order]
    return scores, group, counted, there


@pytest.mark.parametrize("seed", range(3))
def test_the_shift_is_that_of_each_question(x64, seed):
    scores, group, counted, there = shuffled(seed)
    found = jax.jit(group_belief_shift)(*scores, group, counted)
    for question in range(4):
        rows = (group == question) & counted
        alone = belief_shift(*jnp.asarray(scores[:, rows]))
        np.testing.assert_allclose(found[(group == question) & there], alone, atol=1e-12)
    assert len(set(np.round(np.asarray(found[there]), 9).tolist())) == 4
    # The control: with the answer that was said twice the belief is another one.
    twice = group_belief_shift(*jnp.asarray(scores), jnp.asarray(group), jnp.asarray(there))
    assert float(jnp.abs(twice - found)[group == 2].max()) > 1e-4
    known = jnp.asarray(scores[1]), jnp.asarray(group), jnp.asarray(counted)
    # Nothing is differentiated, and what is unlikely beyond all numbers is no NaN.
    assert not jax.grad(lambda x: group_belief_shift(x, *known).sum())(jnp.asarray(scores[0])).any()
    far = group_belief_shift(
        jnp.array([0.0, -4000.0]), jnp.array([-4000.0, 0.0]), jnp.zeros(2, int), jnp.ones(2, bool)
    )
    np.testing.assert_allclose(far, np.log(2))


@pytest.mark.parametrize("share", [0.2, 0.25, 0.5, 0.51, 1.0])
def test_the_share_is_that_of_groups(share):
    """As `largest_share` chooses, one score a group; the tie goes to the smaller number."""
    _, group, _, there = shuffled(0)
    scores = np.array([0.1, 0.3, 0.3, 0.2], np.float32)
    want = np.asarray(largest_share(jnp.asarray(scores), share))
    chosen = jax.jit(largest_share_of_groups, static_argnames="share")(
        scores[group], group, there, share=share
    )
    assert (np.asarray(chosen) == want[group] * there).all()
    # A group of which nobody is there is none: it takes no place.
    left = there & (group != 1)
    chosen = largest_share_of_groups(
        jnp.asarray(scores[group]), jnp.asarray(group), jnp.asarray(left), share
    )
    want = np.asarray(largest_share(jnp.asarray(np.where(np.arange(4) == 1, -1, scores)), share))
    count = int(np.ceil(round(3 * share, 6)))
    assert len(set(group[np.asarray(chosen)])) == count
    assert not np.asarray(chosen)[group == 1].any()


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match=r"share must be a number in \(0, 1\]"):
        largest_share_of_groups(jnp.ones(2), jnp.arange(2), jnp.ones(2, bool), share)
