"""Fits of a weak error against the step size: its terms, and its slope."""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy import stats

from pgpo_jax.errors import PGPOValueError

# The logarithm of an error within three standard errors of zero is not fitted.
RESOLVED = 3.0
_MISFIT = 0.01


@dataclasses.dataclass(frozen=True)
class PolynomialFit:
    """`e(eta) = c0 + c1 eta + c2 eta^2 (+ c3 eta^3)`, lowest power first.

    `first_power` is 0, or 1 for a fit through the origin; `half_widths` are 95%.

    Added in version 0.2.0.
    """

    coefficients: tuple[float, ...]
    half_widths: tuple[float, ...]
    first_power: int
    chi2: float
    dof: int
    p_value: float

    def coefficient(self, power: int) -> tuple[float, float]:
        """The coefficient of `eta^power` and its 95% half width ((0, 0) when not in the fit)."""
        index = power - self.first_power
        if not 0 <= index < len(self.coefficients):
            return 0.0, 0.0
        return self.coefficients[index], self.half_widths[index]

    def __call__(self, eta: float) -> float:
        return sum(c * eta ** (self.first_power + i) for i, c in enumerate(self.coefficients))


@dataclasses.dataclass(frozen=True)
class SlopeFit:
    """Slope of `log2 |e|` on `log2 eta` with a 95% interval; `rungs` were resolved and used.

    Added in version 0.2.0.
    """

    slope: float
    half_width: float
    rungs: int
    chi2: float

    @property
    def interval(self) -> tuple[float, float]:
        return self.slope - self.half_width, self.slope + self.half_width


def _least_squares(
    design: Float[np.ndarray, "n p"], values: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p p"]]:
    # Columns are powers of eta, many decades apart: scaled, the normal matrix keeps its rank.
    scale = np.linalg.norm(design, axis=0)
    q, r = np.linalg.qr(design / scale)
    inverse = np.linalg.inv(r)
    return (inverse @ (q.T @ values)) / scale, (inverse @ inverse.T) / np.outer(scale, scale)


def _polynomial(
    etas: Float[np.ndarray, " n"],
    errors: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    first_power: int,
    last_power: int,
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"], float, int]:
    powers = np.arange(first_power, last_power + 1)
    design = etas[:, None] ** powers[None, :]
    solution, covariance = _least_squares(design * weights[:, None], errors * weights)
    chi2 = float(np.sum(((errors - design @ solution) * weights) ** 2))
    return solution, np.sqrt(np.diag(covariance)), chi2, len(etas) - len(powers)


def fit_polynomial(
    etas: Float[np.ndarray, " n"],
    errors: Float[np.ndarray, " n"],
    standard_errors: Float[np.ndarray, " n"],
    *,
    first_power: int = 0,
) -> PolynomialFit:
    """Fits a signed weak error by a polynomial in the step size.

    Monte Carlo (`standard_errors > 0`): weighted least squares of degree 2, raised to 3 when chi²
    rejects degree 2 at 1%; half widths are 1.96 standard errors. Exact (`standard_errors` all 0):
    the fit has no noise, only a truncated model, so the degree is 3 and a half width is the change
    from degree 2 to 3.

    Args:
        etas: step sizes, shape [n], n >= 5.
        errors: signed errors, shape [n].
        standard_errors: their standard errors, shape [n]; all zero for an exact engine.
        first_power: 0, or 1 to force the fit through the origin.

    Raises:
        ValueError: fewer than five rungs, or standard errors partly zero.

    >>> etas = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64])
    >>> fit = fit_polynomial(etas, 0.5 + 2 * etas, np.zeros(6))
    >>> round(fit.coefficients[0], 6), round(fit.coefficients[1], 6)
    (0.5, 2.0)

    Added in version 0.2.0.
    """
    n = len(etas)
    if n < 5:
        raise PGPOValueError(f"an order needs at least 5 step sizes, got {n}")
    noisy = standard_errors > 0
    if noisy.any() and not noisy.all():
        raise PGPOValueError(
            "standard errors must be all zero (exact) or all positive (Monte Carlo)"
        )
    if noisy.all():
        weights = 1 / standard_errors
        for last in (2, 3):
            solution, sigma, chi2, dof = _polynomial(etas, errors, weights, first_power, last)
            p_value = float(stats.chi2.sf(chi2, dof))
            if p_value >= _MISFIT:
                break
        # If degree 3 does not fit either, the intervals are widened.
        inflation = max(1.0, np.sqrt(chi2 / dof)) if p_value < _MISFIT else 1.0
        widths = 1.96 * sigma * inflation
        return PolynomialFit(
            tuple(map(float, solution)), tuple(map(float, widths)), first_power, chi2, dof, p_value
        )
    last = min(3, n - 2) + first_power
    # Relative weights: the finest rungs are the asymptotic ones.
    weights = 1 / etas
    solution, _, chi2, dof = _polynomial(etas, errors, weights, first_power, last)
    coarser, _, _, _ = _polynomial(etas, errors, weights, first_power, last - 1)
    widths = np.abs(solution - np.append(coarser, 0.0))
    return PolynomialFit(
        tuple(map(float, solution)), tuple(map(float, widths)), first_power, chi2, dof, float("nan")
    )


def fit_slope(
    etas: Float[np.ndarray, " n"],
    errors: Float[np.ndarray, " n"],
    standard_errors: Float[np.ndarray, " n"],
    *,
    curved: bool = False,
) -> SlopeFit | None:
    """Slope of `log2 |e|` on `log2 eta`: the order, if the errors are in the asymptotic regime.

    Weights are `(|e| ln 2 / SE)^2`, only rungs with `|e| > 3 SE` enter, and the 95% Student
    interval is inflated by `sqrt(chi2 / dof)` when the line does not fit. Exact errors get equal
    weights and the interval of their scatter about the line.

    Args:
        etas: step sizes, shape [n].
        errors: errors of any sign, shape [n].
        standard_errors: shape [n], all zero when exact.
        curved: also fit a term linear in eta, which takes up the first pre-asymptotic correction
            `e = c eta^p (1 + a eta)`; wider interval, less bias.

    Returns:
        the fit, or None when fewer than three (curved: four) rungs are resolved.

    >>> etas = 2.0 ** -np.arange(5, 10)
    >>> round(fit_slope(etas, 3 * etas**2, np.zeros(5)).slope, 6)
    2.0

    Added in version 0.2.0.
    """
    use = np.abs(errors) > np.maximum(RESOLVED * standard_errors, 0.0)
    columns = 3 if curved else 2
    if use.sum() < columns + 1:
        return None
    etas, errors, standard_errors = etas[use], errors[use], standard_errors[use]
    noisy = bool((standard_errors > 0).all())
    sigma = standard_errors / (np.abs(errors) * np.log(2)) if noisy else np.ones_like(etas)
    design = np.stack([np.ones_like(etas), np.log2(etas), etas][:columns], axis=1)
    values = np.log2(np.abs(errors))
    solution, covariance = _least_squares(design / sigma[:, None], values / sigma)
    chi2 = float(np.sum(((values - design @ solution) / sigma) ** 2))
    dof = len(etas) - columns
    spread = chi2 / dof
    inflation = np.sqrt(max(1.0, spread)) if noisy else np.sqrt(spread)
    half_width = stats.t.ppf(0.975, dof) * inflation * np.sqrt(covariance[1, 1])
    return SlopeFit(float(solution[1]), float(half_width), len(etas), chi2)
