"""The weak order of an equation for a chain: errors, fits, and one rule for the verdict."""

from sde.order._evidence import Comparison as Comparison
from sde.order._fit import (
    PolynomialFit as PolynomialFit,
    SlopeFit as SlopeFit,
    fit_polynomial as fit_polynomial,
    fit_slope as fit_slope,
)
from sde.order._measure import (
    ETAS as ETAS,
    MONTE_CARLO_ETAS as MONTE_CARLO_ETAS,
    measure_order as measure_order,
)
from sde.order._report import OrderReport as OrderReport
from sde.order._verdict import (
    TOLERANCE as TOLERANCE,
    VERDICTS as VERDICTS,
    Evidence as Evidence,
    Finding as Finding,
    classify_order as classify_order,
    overall_verdict as overall_verdict,
)
