"""Derives a verdict from errors with uncertainties, by one rule for all statements."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from sde.order._fit import RESOLVED, PolynomialFit, SlopeFit, fit_polynomial, fit_slope

VERDICTS = ("order 2", "order 1", "order 1/2", "order 0", "undecided")
"""The possible conclusions of a measurement.

Added in version 0.2.0.
"""
_RANK = {"order 0": 0.0, "order 1/2": 0.5, "order 1": 1.0, "order 2": 2.0}

# Test functions that a confirmation must have besides the mean.
_SECOND = "m2"
_THIRD = ("cos3x", "m3", "m4")
# A slope interval inside q * [0.8, 1.25] says order q; below 1/2 it leaves room for order 0 only.
_WINDOW = (0.8, 1.25)
TOLERANCE = 0.05
"""Equivalence bound of a coefficient that should vanish, as a fraction of what does not vanish.

Added in version 0.2.0.
"""
# Half widths are 1.96 standard errors; "significant" means five of them.
_FIVE_SIGMA = 5 / 1.96
_THREE_SIGMA = 3 / 1.96


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What was measured for one observable, coarsest step first.

    Attributes:
        observable: its name.
        etas: step sizes, shape [n].
        errors: signed terminal errors E g(X_T) - E g(theta_K), shape [n].
        standard_errors: of those, shape [n]; all zero for an exact engine.
        sup_errors: max over k of |error|, shape [n]; None for Monte Carlo, where the maximum of
            noisy values is biased upward.
        resolutions: discretisation error of the engine, shape [n].
        floor: limit of the error as eta -> 0, from two ODE solves; None when not available.
        floor_resolution: its own discretisation error.
        paths: Monte Carlo paths per rung, 0 when exact.

    Added in version 0.2.0.
    """

    observable: str
    etas: Float[np.ndarray, " n"]
    errors: Float[np.ndarray, " n"]
    standard_errors: Float[np.ndarray, " n"]
    sup_errors: Float[np.ndarray, " n"] | None
    resolutions: Float[np.ndarray, " n"]
    floor: float | None
    floor_resolution: float
    paths: int

    @property
    def exact(self) -> bool:
        return not bool(np.any(self.standard_errors > 0))


@dataclasses.dataclass(frozen=True)
class Finding:
    """The verdict on one observable and the fits it rests on.

    Added in version 0.2.0.
    """

    verdict: str
    reason: str
    slope: SlopeFit | None
    curved_slope: SlopeFit | None
    polynomial: PolynomialFit | None
    linear_term: tuple[float, float]
    paths_needed: int | None = None
    unresolved: bool = False


def classify_order(evidence: Evidence, *, tolerance: float = TOLERANCE) -> Finding:
    """Applies the rules of the laboratory to the errors of one observable.

    * order 0: c0 is five standard errors from zero, and its sign is stable on the three finest step
    sizes. The slope interval lies below 1/2, and c0 agrees with the ODE floor;
    * order q in {1/2, 1, 2}: the slope interval (of the straight, else of the curved fit) lies in q
    [0.8, 1.25]. For q >= 1, c0 must be *equivalent* to zero. In this test (TOST) |c0| plus its 95%
    half width is below `tolerance` times the largest other term at the coarsest step. For q = 2 the
    linear term of the fit through the origin must pass the same test. The ODE floor, if there is
    one, must be zero to its own accuracy, which is much finer than that of a fit;
    * otherwise "undecided", with the reason and, for Monte Carlo, the paths that would decide.

    Args:
        evidence: what was measured.
        tolerance: the equivalence bound, a fraction.

    Added in version 0.2.0.
    """
    etas = evidence.etas
    if len(etas) < 5:
        reason = f"an order needs at least 5 step sizes, got {len(etas)}"
        return Finding("undecided", reason, None, None, None, (0.0, 0.0))
    largest = evidence.sup_errors if evidence.sup_errors is not None else evidence.errors
    if evidence.exact and np.any(np.abs(largest) < 10 * evidence.resolutions + 1e-13):
        reason = (
            f"errors down to {np.min(np.abs(largest)):.1e} are not far above the engine's own "
            f"discretisation error {np.max(evidence.resolutions):.1e}"
        )
        return Finding("undecided", reason, None, None, None, (0.0, 0.0), unresolved=True)

    slope = fit_slope(etas, largest, evidence.standard_errors)
    curved = fit_slope(etas, largest, evidence.standard_errors, curved=True)
    fit = fit_polynomial(etas, evidence.errors, evidence.standard_errors)
    through_origin = fit_polynomial(etas, evidence.errors, evidence.standard_errors, first_power=1)
    linear = through_origin.coefficient(1)
    c0, c0_width = fit.coefficient(0)

    def finding(verdict: str, reason: str, *, paths_help: bool = True) -> Finding:
        needed = None
        if verdict == "undecided" and paths_help:
            needed = _paths_needed(evidence, fit, slope, tolerance)
        if needed:
            reason += (
                f"; about {needed:.1e} paths per rung would decide (used {evidence.paths:.1e})"
            )
        return Finding(verdict, reason, slope, curved, fit, linear, needed)

    def within(order: float | int) -> bool:
        low, high = order * _WINDOW[0], order * _WINDOW[1]
        return any(
            s is not None and low <= s.interval[0] and s.interval[1] <= high
            for s in (slope, curved)
        )

    floored = evidence.floor is not None and abs(evidence.floor) > 3 * evidence.floor_resolution
    # This is tested before order 0. A polynomial fitted to sqrt(eta) has a spurious c0, and only
    # the floor shows this.
    if within(0.5) and evidence.floor is not None and not floored:
        return finding("order 1/2", "slope near 1/2 and no floor")

    flat = slope is not None and slope.interval[1] < 0.5
    steady = len(set(np.sign(evidence.errors[-3:]))) == 1
    if abs(c0) > _FIVE_SIGMA * c0_width and flat and steady:
        if evidence.floor is None:
            return finding("undecided", f"c0 = {c0:.4g} is not zero, but no ODE floor confirms it")
        slack = max(
            _THREE_SIGMA * c0_width, tolerance * abs(evidence.floor), 3 * evidence.floor_resolution
        )
        if abs(c0 - evidence.floor) <= slack:
            return finding("order 0", f"c0 = {c0:.5g} is the ODE floor {evidence.floor:.5g}")
        return finding(
            "undecided", f"c0 = {c0:.5g} disagrees with the ODE floor {evidence.floor:.5g}"
        )

    if floored:
        return finding(
            "undecided",
            f"the floor {evidence.floor:.2g} is not zero, so the error does not vanish with the "
            f"step, but these steps do not show it: c0 = {c0:.2g} +- {c0_width:.1g}, slope "
            + ("none" if slope is None else f"{slope.slope:.2f} +- {slope.half_width:.2f}"),
            paths_help=abs(c0) <= _FIVE_SIGMA * c0_width,
        )
    eta = etas[0]
    bound = tolerance * max(abs(c) * eta**p for p, c in enumerate(fit.coefficients) if p >= 1)
    vanishes = abs(c0) + c0_width < bound
    if within(1) and vanishes:
        return finding("order 1", f"|c0| <= {abs(c0) + c0_width:.1e} < {bound:.1e}")
    bound1 = tolerance * max(
        abs(c) * eta**p for p, c in enumerate(through_origin.coefficients, 1) if p >= 2
    )
    linear_vanishes = (abs(linear[0]) + linear[1]) * eta < bound1
    if within(2) and vanishes and linear_vanishes:
        return finding(
            "order 2", f"|c0| <= {abs(c0) + c0_width:.1e}, |c1| <= {abs(linear[0]) + linear[1]:.1e}"
        )

    parts = [
        "no slope (too few rungs above 3 SE)"
        if slope is None
        else f"slope {slope.slope:.2f} +- {slope.half_width:.2f}"
    ]
    parts.append(f"c0 = {c0:.2g} +- {c0_width:.1g} against the bound {bound:.1g}")
    if slope is not None and slope.slope > 1.5:
        parts.append(f"c1 = {linear[0]:.2g} +- {linear[1]:.1g} against {bound1 / eta:.1g}")
    return finding("undecided", ", ".join(parts))


def _paths_needed(
    evidence: Evidence, fit: PolynomialFit, slope: SlopeFit | None, tolerance: float
) -> int | None:
    if evidence.exact or not evidence.paths:
        return None
    c0, width = fit.coefficient(0)
    eta = evidence.etas[0]
    bound = tolerance * max(abs(c) * eta**p for p, c in enumerate(fit.coefficients) if p >= 1)
    # If c0 is 0, a half width of half the bound passes the equivalence test in 19 of 20 cases. A c0
    # beyond the bound must become significant instead.
    stands_out = abs(c0) > max(width, bound)
    factors = [((_FIVE_SIGMA * width / abs(c0)) if stands_out else 2 * width / bound) ** 2]
    sizes = np.abs(evidence.errors)
    # The error of an unresolved step size is at most about its standard error, which is used
    # instead.
    required = (
        RESOLVED * evidence.standard_errors / np.maximum(sizes, evidence.standard_errors)
    ) ** 2
    factors.append(float(np.max(required)))
    if slope is not None:
        factors.append((slope.half_width / (0.2 * max(abs(slope.slope), 0.5))) ** 2)
    factor = max([1.2, *factors])
    return math.ceil(evidence.paths * factor)


def confirmed_by(findings: dict[str, Finding], verdict: str) -> str | None:
    """Why the test functions cannot confirm an order, or `None`: the mean is blind to the diffusion
    when the drift is linear."""
    names = {name for name, f in findings.items() if f.verdict != "undecided"}
    if verdict not in ("order 1", "order 2") or (_SECOND in names and names & set(_THIRD)):
        return None
    return (
        f"{', '.join(sorted(names))} cannot confirm an order: needs 'm2' (the mean is blind to the "
        f"diffusion) and one of {', '.join(_THIRD)}"
    )


def overall_verdict(
    findings: dict[str, Finding], largest_errors: dict[str, float]
) -> tuple[str, str]:
    """The overall verdict: the lowest order among the observables.

    A single observable is enough to refute. A confirmation needs "m2" and a bounded observable, and
    no undecided one. The reason for "m2" is that the mean does not depend on the diffusion if the
    drift is linear. An observable with an error below the engine's resolution is skipped if the
    error is a thousand times smaller than the largest one.

    Args:
        findings: by observable.
        largest_errors: by observable, the largest error measured.

    Returns:
        the verdict and its reason.

    Added in version 0.2.0.
    """
    refuted = [name for name, f in findings.items() if f.verdict == "order 0"]
    if refuted:
        return "order 0", "; ".join(f"{name}: {findings[name].reason}" for name in refuted)
    top = max(largest_errors.values())
    counted = {
        name: f
        for name, f in findings.items()
        if not (f.unresolved and largest_errors[name] < 1e-3 * top)
    }
    open_ = [name for name, f in counted.items() if f.verdict == "undecided"]
    if open_ or not counted:
        return "undecided", "; ".join(f"{name}: {findings[name].reason}" for name in open_)
    verdict = min((f.verdict for f in counted.values()), key=_RANK.__getitem__)
    reason = "; ".join(f"{name}: {f.verdict} ({f.reason})" for name, f in counted.items())
    return verdict, reason
