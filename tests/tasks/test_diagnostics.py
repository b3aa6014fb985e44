"""Hesitation words and pass@k."""

import itertools

import pytest

from pgpo_jax.tasks import HESITATION_WORDS, hesitation_count, pass_at_k


def test_words_are_counted_as_parts_and_in_any_case():
    assert hesitation_count("Wait, the checkpoint seems likely; hmm, maybe.") == 6
    assert hesitation_count("WAIT wait Wait") == 3
    assert hesitation_count("The answer is B.") == 0
    assert hesitation_count("") == 0
    assert all(hesitation_count(word) == 1 for word in HESITATION_WORDS)


def test_the_estimate_is_the_mean_over_all_choices():
    """By enumeration; one minus the power of the error rate is another number."""
    for right, k in itertools.product(range(6), range(1, 6)):
        drawn = list(itertools.combinations([True] * right + [False] * (5 - right), k))
        want = sum(map(any, drawn)) / len(drawn)
        assert abs(pass_at_k([right], 5, k) - want) < 1e-12
    assert abs(pass_at_k([2], 5, 2) - (1 - (3 / 5) ** 2)) > 0.05
    assert pass_at_k([0, 5], 5, 3) == 0.5


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (([], 4, 1), "the right responses to a question, got none"),
        (([1], 4, 5), "k must be at least 1 and at most samples = 4, got 5"),
        (([1], 4, 0), "k must be at least 1 and at most samples = 4, got 0"),
        (([5], 4, 2), r"counts in \[0, samples = 4\], got 5"),
    ],
)
def test_bad_numbers_are_refused(call, rule):
    with pytest.raises(ValueError, match=rule):
        pass_at_k(*call)
