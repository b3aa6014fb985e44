"""The half order at the cap: how large theory says it is, and how large it is."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sde.exact import half_order
from sde.order import Comparison, SlopeFit, fit_slope
from sde.problems import SlidingKink
from sde.weak_order._tables import slope_text, table

EQUATIONS = ("thm2ii", "ode", "consistent")
_ETAS = tuple(2.0**-k for k in range(6, 12))
# The slopes are those of the table of statements, which stops at 2^-10.
_FIRST = 5
_POWERS = (0.5, 1.0, 1.5)


def changes() -> dict[str, SlidingKink]:
    """The sliding kink as it is, and with other parameters."""
    base = SlidingKink()
    noise = np.asarray(base.noise)

    def scaled(factor: float) -> tuple[float, ...]:
        return tuple(float(s) for s in factor * noise)

    return {
        "none (alpha = 0.7)": base,
        "alpha = 2 (the row's)": SlidingKink(alpha=2.0),
        "alpha = 2, curvature 1": SlidingKink(alpha=2.0, curvatures=(1.0,) * 4),
        "alpha = 1, curvature 0.5": SlidingKink(alpha=1.0, curvatures=(0.5,) * 4),
        "alpha = 2, noise halved": SlidingKink(alpha=2.0, noise=scaled(0.5)),
        "alpha = 2, noise doubled": SlidingKink(alpha=2.0, noise=scaled(2.0)),
        "alpha = 2, rho_max = 1.5": SlidingKink(alpha=2.0, rho_max=1.5),
        "alpha = 1, unequal curvatures and tilts, noise +-1": SlidingKink(
            alpha=1.0,
            curvatures=(0.5, 1.0, 0.5, 1.0),
            tilts=(1.0, -1.0, 1.0, -1.0),
            noise=(1.0, 1.0, -1.0, -1.0),
        ),
    }


@dataclasses.dataclass(frozen=True)
class HalfOrder:
    """The error of E x_T of one equation on one problem.

    Attributes:
        change: what the problem changes of `sliding_kink`.
        equation: its name.
        fitted: the coefficient of sqrt(eta) in the exact errors on 2^-6..2^-11, fitted with those
            of eta and eta^(3/2).
        predicted: that of `sde.exact.half_order`.
        slope: of the largest error on 2^-6..2^-10.
    """

    change: str
    equation: str
    fitted: float
    predicted: float
    slope: SlopeFit


def measure_half_orders(change: str, problem: SlidingKink) -> list[HalfOrder]:
    """All equations on one problem."""
    found = []
    for equation in EQUATIONS:
        report = Comparison(
            problem, "pgpo_population", equation, etas=_ETAS, observables=("mean",)
        ).order()
        powers = np.power.outer(report.etas, _POWERS)
        fitted = np.linalg.lstsq(powers, report.errors["mean"], rcond=None)[0][0]
        assert report.sup_errors is not None
        slope = fit_slope(
            report.etas[:_FIRST], report.sup_errors["mean"][:_FIRST], np.zeros(_FIRST)
        )
        assert slope is not None
        predicted = half_order(problem, equation)
        found.append(HalfOrder(change, equation, float(fitted), predicted, slope))
    return found


def equation_table(found: Sequence[HalfOrder]) -> list[str]:
    """The half orders: fitted / predicted and the slope, one problem per row."""
    rows = []
    for change in dict.fromkeys(one.change for one in found):
        mine = {one.equation: one for one in found if one.change == change}
        cells = [
            f"{mine[name].fitted:.4f} / {mine[name].predicted:.4f}, {slope_text(mine[name].slope)}"
            for name in EQUATIONS
        ]
        rows.append([change, *cells])
    return table(("change of sliding_kink", *EQUATIONS), rows)


def measure_kink(folder: Path) -> None:
    """Fills `folder`, and prints the table."""
    found = []
    for change, problem in changes().items():
        found += measure_half_orders(change, problem)
        print(f"{change}: done", flush=True)
    lines = [
        "Coefficient of sqrt(eta) in the error of E x_T: fitted on 2^-6..2^-11 / predicted; then "
        "the slope on 2^-6..2^-10.",
        "",
        *equation_table(found),
    ]
    print("", *lines, sep="\n")
    stored = [dataclasses.asdict(one) for one in found]
    (folder / "results.json").write_text(json.dumps(stored, indent=1))
    text = "\n".join(["# The half order at the cap", "", *lines])
    (folder / "README.md").write_text(text + "\n", encoding="utf-8")
