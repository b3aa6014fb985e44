"""Weak errors by simulation, with control variates and extrapolation over substeps."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from sde.exact import OBSERVABLES, Observable
from sde.exact._solve import exact_path
from sde.monte_carlo import estimate_chain, estimate_equation
from sde.monte_carlo._brownian import Normals
from sde.monte_carlo._checks import extrapolates
from sde.monte_carlo._ensemble import CHUNK, check_paths
from sde.monte_carlo._simulate import prepare
from sde.monte_carlo._solvers import is_euler, solver_name
from sde.order._method import Measurement, Method
from sde.order._question import Question

MONTE_CARLO_ETAS = tuple(2.0**-k for k in range(4, 9))
"""Step sizes of a measurement by simulation.

Added in version 0.2.0.
"""
_FIRST = OBSERVABLES["mean"]
_EULER = diffrax.Euler()
# A smaller variance, as a share of what it is computed from, is rounding: the full batch has none.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class MonteCarlo(Method):
    """Signed terminal errors by simulation; every rung is independent of the others.

    Args:
        paths: per rung, for the chain and for the equation.
        key: a PRNG key; `None` for `jax.random.key(0)`.
        solver: any of diffrax's that declares how it reads the noise; see `sde.simulate`.
        substeps: solver steps per chain step, of the coarser run of an extrapolated pair.
        richardson: extrapolate over `substeps` and twice that on the same Brownian path; `None`:
            where the solver is Euler, which alone can be.
        control_variate: whether to subtract what a path does to second order.
        chunk: paths that are simulated at a time, which bounds the memory.
        progress: told which rung is done and how long it took, and how long one of many chunks will
            take; for instance `print`.
        normals: what the equation's increments are drawn in, "float64" or "float32".

    >>> MonteCarlo(paths=1024, key=jax.random.key(1), solver=diffrax.Heun()).extrapolated
    False

    Added in version 0.2.0.
    """

    paths: int = 1 << 15
    key: PRNGKeyArray | None = None
    solver: diffrax.AbstractSolver = _EULER
    substeps: int = 4
    richardson: bool | None = None
    control_variate: bool = True
    chunk: int = CHUNK
    progress: Callable[[str], None] | None = None
    normals: Normals = "float64"

    name: ClassVar[str] = "monte_carlo"
    etas: ClassVar[tuple[float, ...]] = MONTE_CARLO_ETAS

    @property
    def extrapolated(self) -> bool:
        """Whether there is a pair of runs."""
        return extrapolates(self.richardson, self.solver)

    def check(self, asked: Question) -> None:
        check_paths(self.paths, self.chunk)
        prepare(
            asked.problem,
            asked.equation,
            asked.chain,
            # What can be refused is refused at the coarsest rung.
            eta=asked.steps[0],
            horizon=asked.horizon,
            batch_size=asked.batch_size,
            replace=asked.replace,
            solver=self.solver,
            substeps=self.substeps,
            richardson=self.extrapolated,
            normals=self.normals,
        )

    def measure(self, asked: Question) -> Measurement:
        # Centred near the mean, so that the variance is not the difference of two large numbers.
        centre = float(exact_path(asked.noise_free(), (_FIRST,), 1, 1e-6).values[-1, 0])
        spread = Observable("spread", lambda theta: (theta[0] - centre) ** 2)
        key = jax.random.key(0) if self.key is None else self.key
        etas, size = asked.steps, len(asked.observables)
        wanted = (*asked.observables, _FIRST, spread)
        signed, errors, gains = np.empty((3, len(etas), size))
        ratio = (float("nan"), float("nan"))
        tell = self.progress or (lambda told: None)
        tell(f"{len(etas)} step sizes, {self.paths} paths each; the first compiles")
        for row, eta in enumerate(etas):
            begun = time.perf_counter()
            rung = jax.random.fold_in(key, row)
            shared: dict[str, Any] = {
                "eta": eta,
                "horizon": asked.horizon,
                "paths": self.paths,
                "batch_size": asked.batch_size,
                "replace": asked.replace,
                "control_variate": self.control_variate,
                "chunk": self.chunk,
                "progress": self.progress,
            }
            tracked = estimate_chain(
                asked.problem, asked.chain, wanted, key=jax.random.fold_in(rung, 0), **shared
            )
            between = time.perf_counter()
            model = estimate_equation(
                asked.problem,
                asked.equation,
                wanted,
                chain=asked.chain,
                key=jax.random.fold_in(rung, 1),
                substeps=self.substeps,
                richardson=self.extrapolated,
                solver=self.solver,
                normals=self.normals,
                **shared,
            )
            tell(
                f"{row + 1} of {len(etas)}, eta={eta:g}: chain {between - begun:.1f} s, equation "
                f"{time.perf_counter() - between:.1f} s"
            )
            signed[row] = (model.values - tracked.values)[:size]
            errors[row] = np.hypot(model.standard_errors, tracked.standard_errors)[:size]
            gains[row] = tracked.gain[:size]
            sides = (model, tracked)
            spreads = [e.values[-1] - (e.values[-2] - centre) ** 2 for e in sides]
            ratio = (float("nan"), float("nan"))
            if spreads[1] > _ROUNDING * tracked.values[-1]:
                blurs = [e.standard_errors[-1] / s for e, s in zip(sides, spreads, strict=True)]
                value = spreads[0] / spreads[1]
                ratio = (float(value), float(value * np.hypot(*blurs)))
        evidence = asked.evidence(signed, errors, None, np.zeros_like(signed), self.paths)
        by_name = {g.name: gains[:, k] for k, g in enumerate(asked.observables)}
        return Measurement(evidence, ratio, self.paths, by_name)

    def blind(self, verdict: str, claimed: int) -> str | None:
        if self.extrapolated:
            return None
        if is_euler(self.solver) and self.substeps == 1:
            return (
                "Euler with dt = eta is a chain with Gaussian noise: its error against this chain "
                "is the scheme's. Use richardson=True or substeps > 1"
            )
        if (verdict, claimed) == ("order 1", 2):
            return (
                "without extrapolation the solver's own error is of order 1 in the step and hides "
                "order 2. Use richardson=True"
            )
        return None

    def settings(self) -> dict[str, Any]:
        return {
            "substeps": self.substeps,
            "richardson": self.extrapolated,
            "solver": solver_name(self.solver),
            "normals": self.normals,
            "control_variate": self.control_variate,
            "chunk": self.chunk,
            "seed": seed_of(self.key),
        }


def seed_of(key: PRNGKeyArray | None) -> list[int]:
    """The numbers in a key; of `jax.random.key(n)` the last is n.

    >>> seed_of(jax.random.key(7))
    [0, 7]
    """
    key = jax.random.key(0) if key is None else key
    return np.ravel(jax.random.key_data(key)).tolist()
