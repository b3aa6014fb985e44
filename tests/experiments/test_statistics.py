"""The statistics against hand values, textbook power, and simulated data of known truth."""

import doctest
import math

import numpy as np
import pytest

from experiments import _statistics
from experiments._statistics import (
    compare,
    detectable_difference,
    holm,
    paired_bootstrap,
    pairs_needed,
    power,
    seeds_to_decide,
    verdict,
)
from pgpo_jax.reports import Interval


def test_examples():
    assert doctest.testmod(_statistics).failed == 0


def test_holm_by_hand():
    # 4 * .005, then 3 * .011, then max(.033, 2 * .02) = .04, then max(.04, .03).
    np.testing.assert_allclose(holm([0.02, 0.005, 0.03, 0.011]), [0.04, 0.02, 0.04, 0.033])
    assert holm([0.4, 0.9]) == [0.8, 0.9]
    assert holm([0.7]) == [0.7]


def test_power_against_the_textbook():
    # Cohen (1988): d = .5 needs 34 pairs for 80 % at .05 two-sided, d = .8 needs 15.
    assert pairs_needed(0.5, 1.0) == 34
    assert pairs_needed(0.8, 1.0) == 15
    assert power(0.0, 20) == pytest.approx(0.05, abs=1e-6)
    assert detectable_difference(0.1, 34) == pytest.approx(0.05, rel=0.02)
    assert pairs_needed(0.0, 1.0) is None
    assert pairs_needed(1e-5, 1.0) is None


def simulated(rng, *, truth, seeds=12, questions=64, between=0.02, by_question=0.05, noise=0.3):
    """Differences with a spread between seeds, one between questions, and noise in each."""
    return (
        truth
        + between * rng.standard_normal((seeds, 1))
        + by_question * rng.standard_normal((1, questions))
        + noise * rng.standard_normal((seeds, questions))
    )


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    trials, held, seeds_alone = 300, 0, 0
    for trial in range(trials):
        data = simulated(rng, truth=0.03)
        interval, _ = paired_bootstrap(data, resamples=400, seed=trial)
        held += interval.low <= 0.03 <= interval.high
        by_seed = data.mean(1)
        half = 2.2 * by_seed.std(ddof=1) / math.sqrt(len(by_seed))
        seeds_alone += abs(by_seed.mean() - 0.03) <= half
    assert held / trials >= 0.93
    # The control: an interval over seeds alone, blind to the draw of the questions, is too short.
    assert seeds_alone / trials < held / trials


def test_the_test_keeps_its_level_and_finds_what_is_there():
    rng = np.random.default_rng(1)
    rejected = {
        truth: np.mean(
            [
                paired_bootstrap(simulated(rng, truth=truth), resamples=400, seed=i)[1] <= 0.05
                for i in range(200)
            ]
        )
        for truth in (0.0, 0.08)
    }
    assert rejected[0.0] <= 0.08
    assert rejected[0.08] >= 0.9


def test_verdicts():
    assert verdict(Interval(0.03, 0.01, 0.05), 0.02, 0.01) == "better"
    assert verdict(Interval(-0.03, -0.05, -0.01), 0.02, 0.01) == "worse"
    # The interval alone would do; the family does not allow it.
    assert verdict(Interval(0.03, 0.01, 0.05), 0.02, 0.2) == "undecided"
    assert verdict(Interval(0.01, 0.005, 0.015), 0.02, 0.01) == "no difference that matters"
    assert seeds_to_decide(Interval(0.0, -0.04, 0.04), 10, 0.02) == 40
    assert seeds_to_decide(Interval(0.03, -0.03, 0.09), 10, 0.02) == 40
    # In a family of 20 a normal quantile of 3.02 has to be passed instead of 1.96.
    assert seeds_to_decide(Interval(0.03, -0.03, 0.09), 10, 0.02, 20) == 96
    # Beside 0, but not after the correction: more seeds than there are, in any case.
    assert seeds_to_decide(Interval(0.03, 0.0001, 0.06), 10, 0.02) == 11


def test_a_family_is_paired_and_corrected():
    rng = np.random.default_rng(2)
    level = rng.random((8, 1)) + rng.random((1, 32))
    scores = {
        "a": level + 0.05 + 0.01 * rng.standard_normal((8, 32)),
        "b": level + 0.01 * rng.standard_normal((8, 32)),
        "c": level + 0.01 * rng.standard_normal((8, 32)),
    }
    first, second = compare(scores, [("a", "b"), ("b", "c")], margin=0.02)
    assert first.verdict == "better"
    assert first.effect > 3
    assert second.verdict == "no difference that matters"
    assert first.adjusted == pytest.approx(2 * first.p_value)
    # Unpaired, the spread of the levels would hide it: that is what pairing is for.
    mixed = compare(scores | {"b": scores["b"][::-1]}, [("a", "b")], margin=0.02)[0]
    assert mixed.verdict == "undecided"


def test_one_seed_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 of them, got 1"):
        paired_bootstrap(np.zeros((1, 3)))
