"""The statistics of an order: synthetic errors whose order is known, and traps."""

import numpy as np
import pytest

from sde.order import Evidence, Finding, classify_order, fit_polynomial, fit_slope, overall_verdict

ETAS = 2.0 ** -np.arange(3, 9)


def evidence(errors, se=None, floor=0.0, sup=None, resolution=0.0, paths=0, etas=ETAS):
    errors = np.asarray(errors, dtype=float)
    n = len(errors)
    return Evidence(
        observable="m2",
        etas=etas[:n],
        errors=errors,
        standard_errors=np.zeros(n) if se is None else np.asarray(se, dtype=float),
        sup_errors=np.abs(errors) if se is None and sup is None else sup,
        resolutions=np.full(n, resolution),
        floor=floor,
        floor_resolution=0.0,
        paths=paths,
    )


@pytest.mark.parametrize(
    ("errors", "floor", "verdict"),
    [
        (0.3 * ETAS - 0.2 * ETAS**2, 0.0, "order 1"),
        (0.3 * ETAS**2 + ETAS**3, 0.0, "order 2"),
        (0.2 * ETAS**0.5, 0.0, "order 1/2"),
        (0.1 + 0.3 * ETAS, 0.1, "order 0"),
        (-0.05 + 0.02 * ETAS, -0.05, "order 0"),
    ],
)
def test_exact_orders(errors, floor, verdict):
    assert classify_order(evidence(errors, floor=floor)).verdict == verdict


def test_a_floor_that_the_two_odes_do_not_confirm_is_undecided():
    finding = classify_order(evidence(0.1 + 0.3 * ETAS, floor=0.2))
    assert finding.verdict == "undecided"
    assert "disagrees" in finding.reason
    assert classify_order(evidence(0.1 + 0.3 * ETAS, floor=None)).verdict == "undecided"


def test_a_small_floor_under_a_linear_error_is_not_order_one():
    # Slope alone would pass: only the equivalence test sees c0.
    errors = 0.3 * ETAS + 0.004
    assert fit_slope(ETAS, errors, np.zeros(6)).slope > 0.6
    assert classify_order(evidence(errors, floor=0.004)).verdict != "order 1"


@pytest.mark.parametrize(("power", "verdict"), [(0.5, "order 1/2"), (1, "order 1"), (2, "order 2")])
def test_no_order_is_certified_against_a_floor_that_is_not_zero(power, verdict):
    errors = 0.3 * ETAS**power
    assert classify_order(evidence(errors, floor=0.0)).verdict == verdict
    finding = classify_order(evidence(errors, floor=1e-5))
    assert finding.verdict == "undecided"
    assert "floor" in finding.reason
    assert classify_order(evidence(errors, floor=None)).verdict == (
        verdict if power != 0.5 else "undecided"
    )


def test_errors_at_the_discretisation_of_the_engine_are_undecided():
    finding = classify_order(evidence(1e-3 * ETAS**2, resolution=1e-8))
    assert finding.verdict == "undecided"
    assert finding.unresolved


def test_four_rungs_are_too_few():
    assert classify_order(evidence(ETAS[:4])).verdict == "undecided"


@pytest.mark.parametrize(
    ("curve", "floor", "se", "verdict"),
    [
        (lambda e: 0.1 * e, 0.0, 3e-5, "order 1"),
        (lambda e: 1.4 * e**2, 0.0, 2e-5, "order 2"),
        (lambda e: 0.2 - 0.1 * e, 0.2, 1e-3, "order 0"),
    ],
)
def test_monte_carlo_orders(curve, floor, se, verdict):
    rng = np.random.default_rng(3)
    errors = curve(ETAS) + se * ETAS**0.5 * rng.standard_normal(6)
    finding = classify_order(evidence(errors, se * ETAS**0.5, floor=floor, paths=10_000))
    assert finding.verdict == verdict, finding.reason


def test_too_much_noise_is_undecided_and_says_how_many_paths_would_decide():
    rng = np.random.default_rng(5)
    noisy = evidence(0.1 * ETAS + 2e-3 * rng.standard_normal(6), np.full(6, 2e-3), paths=1000)
    finding = classify_order(noisy)
    assert finding.verdict == "undecided"
    assert finding.paths_needed is not None
    assert finding.paths_needed > 10_000
    assert "paths per rung would decide" in finding.reason
    # The number it names does decide.
    ratio = (1000 / finding.paths_needed) ** 0.5
    sharper = evidence(
        0.1 * ETAS + 2e-3 * ratio * rng.standard_normal(6),
        np.full(6, 2e-3 * ratio),
        paths=finding.paths_needed,
    )
    assert classify_order(sharper).verdict == "order 1"


# On steps so close to each other a slope alone says little, and each rule is seen by itself.
CLOSE = np.linspace(1 / 8, 1 / 10, 6)


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        (0.3 * CLOSE, "order 1"),
        (0.3 * CLOSE + 0.004, "undecided"),  # slope 0.9, but c0 is a tenth
        (CLOSE**2, "order 2"),
        (CLOSE**2 + 0.02 * CLOSE, "undecided"),  # slope 1.85, but c1 is a seventh
    ],
)
def test_each_rule_by_itself(errors, verdict):
    assert classify_order(evidence(errors, floor=None, etas=CLOSE)).verdict == verdict


@pytest.mark.parametrize("power", [0.75, 1.3, 1.5, 2.7])
def test_a_power_between_the_orders_is_undecided(power):
    assert classify_order(evidence(ETAS**power, floor=None)).verdict == "undecided"


def test_an_order_zero_of_four_standard_errors_is_undecided():
    # Each rung stands out from zero and the slope is flat; the limit is known to 0.005 only.
    flat = np.full(6, 0.02)
    finding = classify_order(evidence(flat, np.full(6, 0.006), floor=0.02, paths=1000))
    assert finding.slope is not None
    assert finding.slope.interval[1] < 0.5
    assert finding.verdict == "undecided"
    assert (
        classify_order(evidence(flat, np.full(6, 0.002), floor=0.02, paths=1000)).verdict
        == "order 0"
    )


def test_an_error_that_changes_its_sign_on_the_finest_rungs_has_no_limit():
    errors = 0.1 * np.array([1.0, 1.0, 1.0, 1.0, -1.0, 1.0])
    c0 = fit_polynomial(ETAS, errors, np.zeros(6)).coefficient(0)[0]
    assert classify_order(evidence(errors, floor=c0)).verdict == "undecided"


def test_rungs_within_three_standard_errors_have_no_logarithm():
    se = np.full(6, 0.3 * ETAS[3] / 3.5)
    fit = fit_slope(ETAS, 0.3 * ETAS, se)
    assert fit.rungs == 4
    assert fit_slope(ETAS, 0.3 * ETAS, 20 * se) is None


def test_intervals_of_a_model_that_does_not_fit_are_widened():
    zigzag = ETAS * (1 + 0.3 * (-1.0) ** np.arange(6))
    assert fit_slope(ETAS, zigzag, 1e-6 * ETAS).half_width > 0.2
    assert fit_slope(ETAS, ETAS, 1e-6 * ETAS).half_width < 1e-4
    root = fit_polynomial(ETAS, ETAS**0.5, np.full(6, 1e-6))
    assert root.p_value < 0.01
    assert root.half_widths[0] > 1e-3


def test_interval_of_a_slope_covers():
    rng = np.random.default_rng(17)
    hits = 0
    for _ in range(400):
        scattered = ETAS * np.exp(0.1 * rng.standard_normal(6))
        low, high = fit_slope(ETAS, scattered, np.zeros(6)).interval
        hits += low <= 1 <= high
    assert 0.92 < hits / 400 < 0.98


def test_false_confirmations_are_rare():
    # An order-0 error a few standard errors large must not be certified as order 1.
    rng = np.random.default_rng(11)
    verdicts = [
        classify_order(
            evidence(
                0.003 + 0.1 * ETAS + 1e-3 * rng.standard_normal(6),
                np.full(6, 1e-3),
                floor=0.003,
                paths=1000,
            )
        ).verdict
        for _ in range(200)
    ]
    assert verdicts.count("order 1") <= 2


def test_polynomial_degree_rises_only_when_chi2_rejects():
    rng = np.random.default_rng(7)
    se = np.full(6, 1e-4)
    quadratic = 0.1 + ETAS + 0.3 * ETAS**2 + se * rng.standard_normal(6)
    cubic = quadratic + 30 * ETAS**3
    assert len(fit_polynomial(ETAS, quadratic, se).coefficients) == 3
    fit = fit_polynomial(ETAS, cubic, se)
    assert len(fit.coefficients) == 4
    assert abs(fit.coefficients[0] - 0.1) < 2 * fit.half_widths[0]


def test_interval_of_c0_covers():
    rng = np.random.default_rng(13)
    se = 1e-3 * ETAS**0.5
    hits = 0
    for _ in range(400):
        fit = fit_polynomial(ETAS, 0.02 + 0.1 * ETAS + se * rng.standard_normal(6), se)
        hits += abs(fit.coefficients[0] - 0.02) <= fit.half_widths[0]
    assert 0.91 < hits / 400 < 0.98


def test_curved_slope_takes_up_the_first_correction():
    errors = ETAS * (1 + 3 * ETAS)
    straight = fit_slope(ETAS, errors, np.zeros(6))
    curved = fit_slope(ETAS, errors, np.zeros(6), curved=True)
    assert abs(curved.slope - 1) < abs(straight.slope - 1)


def test_mixed_standard_errors_are_refused():
    with pytest.raises(ValueError, match=r"all zero .* or all positive"):
        fit_polynomial(ETAS, ETAS, np.array([0, 0, 0, 0, 0, 1.0]))


def _finding(verdict, unresolved=False):
    return Finding(verdict, "because", None, None, None, (0.0, 0.0), unresolved=unresolved)


def test_the_worst_observable_rules():
    both = {"mean": _finding("order 2"), "m2": _finding("order 1")}
    assert overall_verdict(both, {"mean": 1.0, "m2": 1.0})[0] == "order 1"
    both["cos3x"] = _finding("order 0")
    assert overall_verdict(both, dict.fromkeys(both, 1.0))[0] == "order 0"
    both["cos3x"] = _finding("undecided")
    assert overall_verdict(both, dict.fromkeys(both, 1.0))[0] == "undecided"


def test_an_unresolved_observable_is_passed_over_only_when_negligible():
    findings = {"mean": _finding("undecided", unresolved=True), "m2": _finding("order 1")}
    assert overall_verdict(findings, {"mean": 1e-12, "m2": 1e-3})[0] == "order 1"
    assert overall_verdict(findings, {"mean": 1e-4, "m2": 1e-3})[0] == "undecided"
