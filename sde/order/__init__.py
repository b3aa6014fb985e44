"""The weak order of an equation for a chain: errors, fits, and one rule for the verdict."""

from sde.order._comparison import Comparison as Comparison
from sde.order._exact import ETAS as ETAS, Exact as Exact
from sde.order._fit import (
    PolynomialFit as PolynomialFit,
    SlopeFit as SlopeFit,
    fit_polynomial as fit_polynomial,
    fit_slope as fit_slope,
)
from sde.order._method import Measurement as Measurement, Method as Method
from sde.order._monte_carlo import (
    MONTE_CARLO_ETAS as MONTE_CARLO_ETAS,
    MonteCarlo as MonteCarlo,
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
