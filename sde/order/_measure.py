"""The instrument: how fast an equation's weak error against a chain falls with the step size."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from pgpo_jax.errors import PGPOValueError
from sde._chains import Chain
from sde._equations import EQUATIONS, Equation, as_eta
from sde._lookup import as_chain, as_equation, as_problem, count_steps
from sde._minibatches import check_batch
from sde._named_chains import CHAINS
from sde.exact import Observable, as_observable
from sde.monte_carlo._ensemble import check_paths
from sde.monte_carlo._simulate import prepare
from sde.order._evidence import Comparison, exact_evidence, monte_carlo_evidence
from sde.order._report import OrderReport, decisive_observable
from sde.order._verdict import TOLERANCE, classify_order, overall_verdict
from sde.problems import PROBLEMS, Problem

ETAS = tuple(2.0**-k for k in range(5, 10))
"""Step sizes of a measurement with exact expectations.

Added in version 0.2.0.
"""
MONTE_CARLO_ETAS = tuple(2.0**-k for k in range(4, 9))
"""Step sizes of a measurement by simulation.

Added in version 0.2.0.
"""
# Test functions that a confirmation must have besides the mean.
_SECOND = "m2"
_THIRD = ("cos3x", "m3", "m4")


def measure_order(
    problem: str | Problem,
    chain: str | Chain,
    equation: str | Equation,
    *,
    etas: Sequence[float] | None = None,
    observables: Sequence[str | Callable[..., Any] | Observable] = ("mean", "m2", "cos3x"),
    method: Literal["exact", "monte_carlo"] = "exact",
    horizon: float = 1.0,
    batch_size: int = 1,
    replace: bool = True,
    paths: int = 1 << 15,
    key: PRNGKeyArray | None = None,
    substeps: int = 4,
    richardson: bool = True,
    solver: str = "euler",
    control_variate: bool = True,
    tolerance: float = TOLERANCE,
    progress: Callable[[str], None] | None = None,
) -> OrderReport:
    r"""Measures the weak order of an equation against a chain, and says what it is worth.

    Exact: errors for all k <= T/eta without Monte Carlo; the slope is that of the largest, the
    fit c0 + c1 eta + c2 eta^2 (+ c3 eta^3) that of the signed terminal one. Monte Carlo: signed
    terminal errors of independent rungs, Euler extrapolated over substeps, linear control variates.

    A verdict follows one rule (`sde.order.classify_order`) and rests on all observables; the worst
    counts. Four traps are refused, with "undecided" and the reason:

    * Euler with dt = eta *is* SGD with Gaussian noise, so one substep without extrapolation
      measures the scheme and not the equation; nor can any number of substeps without it tell
      order 2 from 1;
    * the mean alone is blind to the diffusion when the drift is linear: a confirmation needs "m2"
      and a third: bounded, "cos3x", or "m3" or "m4" where an engine has moments only;
    * a Monte Carlo error larger than what it should resolve (it names the paths that would do);
    * an order-0 verdict that the ODE floor does not confirm.

    Args:
        problem: a problem or its name.
        chain: a chain or its name.
        equation: an equation or its name.
        etas: at least 5 step sizes, each dividing the horizon; by default 2^-5..2^-9 (exact) or
            2^-4..2^-8 (Monte Carlo).
        observables: test functions, names or functions of theta.
        method: "exact" or "monte_carlo".
        horizon: T.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.
        paths: Monte Carlo paths per rung, for the chain and for the equation.
        key: a PRNG key; by default `jax.random.key(0)`.
        substeps: solver steps per chain step of the coarser run of the extrapolated pair.
        richardson: extrapolate over `substeps` and twice that.
        solver: of the Monte Carlo equation.
        control_variate: whether to use it.
        tolerance: equivalence bound of a coefficient that should vanish, as a fraction.
        progress: told, by Monte Carlo, which rung is done and how long it took; for instance
            `print`.

    Returns:
        an `OrderReport`.

    Raises:
        ValueError: unknown names (with those that exist), etas that do not divide the horizon,
            fewer than 1 path, a problem without smoothness where order 2 is asked, a solver that
            cannot take the noise, a process that no exact engine covers.

    >>> report = measure_order("quadratic", "sgd", "eq7")
    >>> report.verdict
    'order 1'
    """
    start = time.perf_counter()
    if method not in ("exact", "monte_carlo"):
        raise PGPOValueError(f"method must be 'exact' or 'monte_carlo', got {method!r}")
    etas = _checked_etas(etas, method, horizon)
    problem, chain, equation = as_problem(problem), as_chain(chain), as_equation(equation)
    functions = tuple(as_observable(g) for g in observables)
    if not functions:
        raise PGPOValueError("observables must name at least one test function, got none")
    if len({g.name for g in functions}) < len(functions):
        raise PGPOValueError(
            f"observables must have distinct names, got {[g.name for g in functions]}"
        )
    check_batch(problem.num_examples, batch_size, replace)
    equation.check(problem, chain)
    asked = Comparison(problem, chain, equation, functions, etas, horizon, batch_size, replace)
    settings: dict[str, Any] = {
        "horizon": horizon,
        "batch_size": batch_size,
        "replace": replace,
    }
    with jax.enable_x64(True):
        if method == "exact":
            evidence, ratio = exact_evidence(asked)
            paths, gains = 0, None
        else:
            check_paths(paths, paths)
            scheme: dict[str, Any] = {
                "substeps": substeps,
                "richardson": richardson,
                "solver": solver,
            }
            # Everything that can be refused is refused at the coarsest rung, before any rung runs.
            prepare(problem, equation, chain, eta=etas[0], **settings, **scheme)
            scheme["control_variate"] = control_variate
            settings |= scheme
            key = jax.random.key(0) if key is None else key
            evidence, ratio, gains = monte_carlo_evidence(
                asked, paths=paths, key=key, progress=progress, **scheme
            )
    findings = {e.observable: classify_order(e, tolerance=tolerance) for e in evidence}
    largest_errors = {
        e.observable: float(np.max(np.abs(e.errors if e.sup_errors is None else e.sup_errors)))
        for e in evidence
    }
    verdict, reason = overall_verdict(findings, largest_errors)
    if method == "monte_carlo" and solver == "euler" and substeps == 1 and not richardson:
        verdict, reason = (
            "undecided",
            (
                "Euler with dt = eta is a chain with Gaussian noise: its error against this chain "
                "is the scheme's. Use richardson=True or substeps > 1"
            ),
        )
    elif method == "monte_carlo" and not richardson and (verdict, equation.order) == ("order 1", 2):
        verdict, reason = (
            "undecided",
            (
                "without extrapolation the solver's own error is of order 1 in the step and hides "
                "order 2. Use richardson=True"
            ),
        )
    elif verdict in ("order 1", "order 2"):
        names = {name for name, f in findings.items() if f.verdict != "undecided"}
        if _SECOND not in names or not names & set(_THIRD):
            verdict, reason = (
                "undecided",
                (
                    f"{', '.join(sorted(names))} cannot confirm an order: needs 'm2' (the mean is "
                    f"blind to the diffusion) and one of {', '.join(_THIRD)}"
                ),
            )
    return OrderReport(
        problem=_name_of(PROBLEMS, problem, type(problem).__name__),
        chain=_name_of(CHAINS, chain, repr(chain)),
        equation=_name_of(EQUATIONS, equation, equation.name),
        method=method,
        etas=np.asarray(etas),
        errors={e.observable: e.errors for e in evidence},
        standard_errors={e.observable: e.standard_errors for e in evidence},
        sup_errors=None
        if method == "monte_carlo"
        else {e.observable: np.asarray(e.sup_errors) for e in evidence},
        gains=gains,
        resolutions={e.observable: e.resolutions for e in evidence},
        floors={e.observable: e.floor for e in evidence},
        variance_ratio=ratio[0],
        variance_ratio_error=ratio[1],
        verdict=verdict,
        reason=reason,
        findings=findings,
        decisive=decisive_observable(findings, verdict),
        paths=paths,
        seconds=time.perf_counter() - start,
        settings=settings,
    )


def _checked_etas(etas: Sequence[float] | None, method: str, horizon: float) -> tuple[float, ...]:
    if etas is None:
        etas = ETAS if method == "exact" else MONTE_CARLO_ETAS
    etas = tuple(as_eta(eta) for eta in etas)
    if not etas:
        raise PGPOValueError("etas must hold step sizes, got none")
    for eta in etas:
        count_steps(eta, horizon)
    if any(fine >= coarse for coarse, fine in itertools.pairwise(etas)):
        raise PGPOValueError(f"etas must decrease, got {etas}")
    return etas


def _name_of(table: Any, thing: Any, otherwise: str) -> str:
    return next((name for name, other in table.items() if other == thing), otherwise)
