"""The statistics against hand values, textbook power, and simulated data of known truth."""

import doctest
import math

import numpy as np
import pytest

from experiments.sweeps import (
    FEWEST_SEEDS,
    Variance,
    _bootstrap,
    _compare,
    _power,
    compare,
    detectable_difference,
    holm,
    paired_bootstrap,
    power,
    seeds_needed,
    verdict,
)
from pgpo_jax.reports import Interval


@pytest.mark.parametrize("module", [_bootstrap, _compare, _power])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


def test_holm_by_hand():
    # 4 * .005, then 3 * .011, then max(.033, 2 * .02) = .04, then max(.04, .03).
    np.testing.assert_allclose(holm([0.02, 0.005, 0.03, 0.011]), [0.04, 0.02, 0.04, 0.033])
    assert holm([0.4, 0.9]) == [0.8, 0.9]
    assert holm([0.7]) == [0.7]


def test_power_against_the_textbook():
    # Cohen (1988): d = .5 needs 34 pairs for 80 % at .05 two-sided, d = .8 needs 15.
    assert power(0.5, 33) < 0.8 <= power(0.5, 34)
    assert power(0.8, 14) < 0.8 <= power(0.8, 15)
    assert power(0.0, 20) == pytest.approx(0.05, abs=1e-6)
    assert detectable_difference(0.1, 34) == pytest.approx(0.05, rel=0.02)
    # A stricter level asks for more: 1.30 times for 30 pairs (t quantiles 2.045, 3.09, .854).
    ratio = detectable_difference(1.0, 30, level=0.05 / 12) / detectable_difference(1.0, 30)
    assert ratio == pytest.approx((3.11 + 0.854) / (2.045 + 0.854), rel=0.02)


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
    def of(*ends, adjusted=0.01, seeds=12):
        return verdict(Interval(*ends), 0.02, adjusted=adjusted, seeds=seeds)

    assert of(0.03, 0.01, 0.05) == "better"
    assert of(-0.03, -0.05, -0.01) == "worse"
    # The interval alone would do; the family does not allow it.
    assert of(0.03, 0.01, 0.05, adjusted=0.2) == "undecided"
    assert of(0.01, 0.005, 0.015) == "no difference that matters"
    # As many heads in a row are no news (p .0625), one more is (.031).
    assert FEWEST_SEEDS == 6
    assert of(0.03, 0.029, 0.031, seeds=5) == of(0.0, 0.0, 0.0, seeds=5) == "undecided"
    assert of(0.03, 0.029, 0.031, seeds=6) == "better"


def test_seeds_needed_by_hand():
    # 2.802 standard errors (1.960 + .842): 10 seeds * (.02 * 2.802 / .03)^2 = 34.9.
    assert seeds_needed(0.03, Variance(0.02**2, 0.0), 10) == 35
    # In a family of 20 a quantile of 3.023 has to be passed: 10 * (.02 * 3.865 / .03)^2 = 66.4.
    assert seeds_needed(0.03, Variance(0.02**2, 0.0), 10, level=0.05 / 20) == 67
    # Inside a margin on both sides: 1.960 + 1.282.
    assert seeds_needed(0.0, Variance(0.02**2, 0.0), 10, margin=0.02) == 106
    # What the questions vary by does not go away: (.03 / 2.802)^2 - .005^2 is left to the seeds.
    assert seeds_needed(0.03, Variance(0.02**2, 0.005**2), 10) == 45
    assert seeds_needed(0.03, Variance(0.02**2, 0.011**2), 10) is None
    assert seeds_needed(0.0, Variance(0.02**2, 0.0), 10) is None


def test_the_variance_is_that_of_the_draws():
    rng = np.random.default_rng(3)
    for between, by_question in ((0.05, 0.0), (0.0, 0.2), (0.02, 0.05)):
        data = simulated(rng, truth=0.0, seeds=10, between=between, by_question=by_question)
        interval, _ = paired_bootstrap(data, resamples=20_000)
        half = 1.96 * math.sqrt(sum(Variance.of(data)))
        assert interval.high - interval.low == pytest.approx(2 * half, rel=0.08)
    # More seeds leave the questions' part where it is.
    few, many = (
        np.mean(
            [Variance.of(simulated(rng, truth=0, seeds=n, by_question=0.2)) for _ in range(50)], 0
        )
        for n in (10, 40)
    )
    assert few[0] / many[0] == pytest.approx(4, rel=0.2)
    assert few[1] / many[1] == pytest.approx(1, rel=0.2)
    assert few[1] == pytest.approx(0.2**2 / 64, rel=0.2)


def test_a_p_value_near_its_limit_does_not_hang_on_the_draws():
    """The falsification test's `mirrored`: .0043, times 11; by 4,000 draws .035 to .060."""
    rng = np.random.default_rng(4)
    data = simulated(rng, truth=0.0, seeds=8, questions=4)
    data += 2.9 * math.sqrt(sum(Variance.of(data))) - data.mean()
    scores = {"a": data, "b": np.zeros_like(data)}
    found = compare(scores, [("a", "b")], margin=0.02, resamples=1_000_000)[0].p_value
    again = paired_bootstrap(data, resamples=1_000_000, seed=7)[1]
    assert 0.001 < again < 0.02
    assert found == pytest.approx(again, rel=0.05)


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
