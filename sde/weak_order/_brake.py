"""How the errors of the brake grow with alpha, where I crosses zero and where it stays there."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sde import STATEMENTS
from sde.exact import half_order
from sde.order import Comparison, OrderReport
from sde.problems import SlidingKink
from sde.weak_order._tables import slope_text, table

ALPHAS = (1.0, 3.0, 10.0, 30.0)
_SLIDING_ETAS = tuple(2.0**-k for k in range(6, 12))
_POWERS = (0.5, 1.0, 1.5)


@dataclasses.dataclass(frozen=True)
class Crossing:
    """The errors of E theta where I falls through zero, under rho_max = 1.

    Attributes:
        alpha: the multiplier's gain, per nat.
        population, minibatch: the largest error over eta at the finest step, of the corrected
            equation, for the brake told I(theta) and for the brake as it is run.
        published, jensen: limits of the errors of Theorem 2(ii) and of -E[rho_B] grad L, for the
            brake as it is run.
    """

    alpha: float
    population: float
    minibatch: float
    published: float
    jensen: float


@dataclasses.dataclass(frozen=True)
class Sliding:
    """The errors of E x where I stays within O(sqrt(eta)) of zero, under rho_max = 1.

    Attributes:
        alpha: the multiplier's gain, per nat.
        fitted: the coefficient of sqrt(eta) in the errors of the equation without noise.
        predicted: that of `sde.exact.half_order`.
        still: both slopes of the mean, and the verdict, of the equation without noise.
        unchanged: those of the unchanged diffusion, which is the chain's own at the cap.
    """

    alpha: float
    fitted: float
    predicted: float
    still: str
    unchanged: str


def measure_crossing(alpha: float) -> Crossing:
    """One alpha, on the row's step sizes."""
    ((_, problem),) = STATEMENTS["brake-crossed"].problems
    problem = dataclasses.replace(problem, alpha=alpha)

    def report(chain: str, equation: str) -> OrderReport:
        return Comparison(problem, chain, equation).order()

    def constant(chain: str) -> float:
        found = report(chain, "corrected")
        assert found.sup_errors is not None
        return float(found.sup_errors["mean"][-1] / found.etas[-1])

    def limit(equation: str) -> float:
        floor = report("pgpo_minibatch", equation).floors["mean"]
        assert floor is not None
        return floor

    return Crossing(
        alpha,
        constant("pgpo_population"),
        constant("pgpo_minibatch"),
        limit("thm2ii"),
        limit("jensen"),
    )


def measure_sliding(alpha: float) -> Sliding:
    """One alpha, on 2^-6..2^-11."""
    problem = SlidingKink(alpha=alpha, rho_max=1.0)
    told, fitted = {}, 0.0
    for equation in ("ode", "thm2ii"):
        report = Comparison(
            *(problem, "pgpo_population", equation),
            etas=_SLIDING_ETAS,
            observables=("mean", "m2", "m3"),
        ).order()
        if equation == "ode":
            powers = np.power.outer(report.etas, _POWERS)
            fitted = float(np.linalg.lstsq(powers, report.errors["mean"], rcond=None)[0][0])
        found = report.findings["mean"]
        slopes = f"{slope_text(found.slope)}; curved {slope_text(found.curved_slope)}"
        told[equation] = f"{slopes}; {report.verdict}"
    return Sliding(alpha, fitted, half_order(problem, "ode"), told["ode"], told["thm2ii"])


def crossing_table(found: Sequence[Crossing]) -> list[str]:
    """One alpha per row."""
    columns = ("alpha", "C, population", "C, as run", "floor, published", "floor, E[rho_B] grad L")
    rows = [
        [
            f"{one.alpha:g}",
            f"{one.population:.3f}",
            f"{one.minibatch:.3f}",
            f"{one.published:.4f}",
            f"{one.jensen:.4f}",
        ]
        for one in found
    ]
    return table(columns, rows)


def sliding_table(found: Sequence[Sliding]) -> list[str]:
    """One alpha per row."""
    columns = ("alpha", "sqrt(eta), fitted / predicted", "no noise", "unchanged diffusion")
    rows = [
        [f"{s.alpha:g}", f"{s.fitted:.4f} / {s.predicted:.4f}", s.still, s.unchanged] for s in found
    ]
    return table(columns, rows)


def measure_brake(folder: Path) -> None:
    """Fills `folder`, and prints both tables."""
    crossing, sliding = [], []
    for alpha in ALPHAS:
        crossing.append(measure_crossing(alpha))
        sliding.append(measure_sliding(alpha))
        print(f"alpha = {alpha:g}: done", flush=True)
    lines = [
        "I falls through 0: the error of E theta over eta at 2^-9 (C), and two floors.",
        "",
        *crossing_table(crossing),
        "",
        "I stays at 0: the error of E x on 2^-6..2^-11.",
        "",
        *sliding_table(sliding),
    ]
    print("", *lines, sep="\n")
    stored = {
        "crossing": [dataclasses.asdict(one) for one in crossing],
        "sliding": [dataclasses.asdict(one) for one in sliding],
    }
    (folder / "results.json").write_text(json.dumps(stored, indent=1))
    text = "\n".join(["# The brake, by alpha", "", *lines])
    (folder / "README.md").write_text(text + "\n", encoding="utf-8")
