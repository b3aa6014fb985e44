"""The result of a measurement of the order, which can be printed, plotted and stored."""

import dataclasses
import json
import math
import time
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from sde._equations import EQUATIONS
from sde._named_chains import CHAINS
from sde.order._method import Method
from sde.order._question import Question
from sde.order._verdict import Finding, classify_order, confirmed_by, overall_verdict
from sde.problems import PROBLEMS


@dataclasses.dataclass(frozen=True)
class OrderReport:
    """The weak error of an equation against a chain, and the verdict on its order.

    Dictionaries are keyed by the observable's name; arrays run over `etas`, coarsest first.

    Attributes:
        problem, chain, equation: names.
        method: "exact" or "monte_carlo".
        etas: step sizes, shape [n].
        errors: signed terminal errors E g(X_T) - E g(theta_K).
        standard_errors: of those; zeros when exact.
        sup_errors: max over k of |error| (exact only).
        gains: factor by which the control variates cut the variance of the chain's side (Monte
            Carlo only).
        resolutions: discretisation error of the exact engine (zeros for Monte Carlo).
        floors: limit of the error as eta -> 0, from two ODE solves, or None.
        slope, slope_ci: of log2|error| on log2 eta, for the observable that decides.
        c0, c0_ci: of the fit c0 + c1 eta + c2 eta^2 (+ c3 eta^3), for the observable that decides.
        variance_ratio: (Var/eta of the equation) / (Var/eta of the chain) at the finest eta; what
            order 1 cannot see.
        variance_ratio_error: its standard or discretisation error.
        verdict: "order 2" | "order 1" | "order 1/2" | "order 0" | "undecided".
        reason: why.
        findings: the verdict and fits of every observable.
        decisive: the observable that decides.
        paths: Monte Carlo paths per rung (0 when exact).
        seconds: wall time.
        settings: of the comparison and of the method, by name.
    """

    problem: str
    chain: str
    equation: str
    method: str
    etas: Float[np.ndarray, " n"]
    errors: dict[str, np.ndarray]
    standard_errors: dict[str, np.ndarray]
    sup_errors: dict[str, np.ndarray] | None
    gains: dict[str, np.ndarray] | None
    resolutions: dict[str, np.ndarray]
    floors: dict[str, float | None]
    variance_ratio: float
    variance_ratio_error: float
    verdict: str
    reason: str
    findings: dict[str, Finding]
    decisive: str
    paths: int
    seconds: float
    settings: dict[str, Any]

    @property
    def slope(self) -> float:
        return self.slopes[self.decisive][0]

    @property
    def slope_ci(self) -> tuple[float, float]:
        slope, width = self.slopes[self.decisive]
        return slope - width, slope + width

    @property
    def slopes(self) -> dict[str, tuple[float, float]]:
        """Slope and 95% half width by observable; NaN where too few rungs are resolved."""
        nothing = (math.nan, math.nan)
        return {
            name: nothing if f.slope is None else (f.slope.slope, f.slope.half_width)
            for name, f in self.findings.items()
        }

    @property
    def c0(self) -> float:
        return self._c0[0]

    @property
    def c0_ci(self) -> tuple[float, float]:
        c0, width = self._c0
        return c0 - width, c0 + width

    @property
    def _c0(self) -> tuple[float, float]:
        fit = self.findings[self.decisive].polynomial
        return (math.nan, math.nan) if fit is None else fit.coefficient(0)

    @property
    def paths_needed(self) -> int | None:
        """Paths per rung that would decide, where Monte Carlo noise left it undecided."""
        needed = [f.paths_needed for f in self.findings.values() if f.paths_needed]
        return max(needed) if needed and self.verdict == "undecided" else None

    def to_json(self) -> str:
        """The whole report as JSON; NaN and infinity become null."""
        out = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        out["findings"] = {name: dataclasses.asdict(f) for name, f in self.findings.items()}
        for name in ("slope", "slope_ci", "c0", "c0_ci", "paths_needed"):
            out[name] = getattr(self, name)
        return json.dumps(_plain(out), indent=1)

    def __str__(self) -> str:
        slopes = ", ".join(f"{k} {p:.2f}±{w:.2f}" for k, (p, w) in self.slopes.items())
        return (
            f"{self.equation} for {self.chain} on {self.problem} ({self.method}): {self.verdict}; "
            f"slopes {slopes}; Var/eta ratio {self.variance_ratio:.4f}; {self.reason}"
        )


def report_order(asked: Question, method: Method, tolerance: float) -> OrderReport:
    """Measures, classifies, and says what the verdict rests on; see `Comparison.order`."""
    start = time.perf_counter()
    with jax.enable_x64(True):
        method.check(asked)
        found = method.measure(asked)
    evidence = found.evidence
    findings = {e.observable: classify_order(e, tolerance=tolerance) for e in evidence}
    largest_errors = {
        e.observable: float(np.max(np.abs(e.errors if e.sup_errors is None else e.sup_errors)))
        for e in evidence
    }
    verdict, reason = overall_verdict(findings, largest_errors)
    caveat = method.blind(verdict, asked.equation.order) or confirmed_by(findings, verdict)
    if caveat is not None:
        verdict, reason = "undecided", caveat
    return OrderReport(
        problem=_name_of(PROBLEMS, asked.problem, type(asked.problem).__name__),
        chain=_name_of(CHAINS, asked.chain, repr(asked.chain)),
        equation=_name_of(EQUATIONS, asked.equation, asked.equation.name),
        method=method.name,
        etas=np.asarray(asked.steps),
        errors={e.observable: e.errors for e in evidence},
        standard_errors={e.observable: e.standard_errors for e in evidence},
        sup_errors=None
        if any(e.sup_errors is None for e in evidence)
        else {e.observable: np.asarray(e.sup_errors) for e in evidence},
        gains=found.gains,
        resolutions={e.observable: e.resolutions for e in evidence},
        floors={e.observable: e.floor for e in evidence},
        variance_ratio=found.variance_ratio[0],
        variance_ratio_error=found.variance_ratio[1],
        verdict=verdict,
        reason=reason,
        findings=findings,
        decisive=decisive_observable(findings, verdict),
        paths=found.paths,
        seconds=time.perf_counter() - start,
        settings={
            "horizon": asked.horizon,
            "batch_size": asked.batch_size,
            "replace": asked.replace,
            **method.settings(),
        },
    )


def _name_of(table: Any, thing: Any, otherwise: str) -> str:
    return next((name for name, other in table.items() if other == thing), otherwise)


def decisive_observable(findings: dict[str, Finding], verdict: str) -> str:
    """The observable whose finding is the overall verdict (the flattest of them)."""
    same = [name for name, f in findings.items() if f.verdict == verdict] or list(findings)

    def steepness(name: str) -> float:
        slope = findings[name].slope
        return math.inf if slope is None else slope.slope

    return min(same, key=steepness)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return str(value)
