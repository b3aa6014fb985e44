"""The statements of the laboratory as data: the claim, its tests and the expected verdict."""

import dataclasses
from types import MappingProxyType

from sde._chains import Chain, RememberingPGPO
from sde._equations import EQUATIONS, Equation
from sde._named_chains import CHAINS
from sde.order import ETAS, MONTE_CARLO_ETAS
from sde.problems import PROBLEMS, Problem

# The Fourier engine of the torus resolves 1e-8, and the grid of a chain with a kink resolves 1e-7.
# An error of order 2 soon falls to these values.
_COARSE = tuple(2.0**-k for k in range(3, 8))
_ALL = ("mean", "m2", "cos3x")
# The engine of a state of two coordinates, one affine given the other, has moments only.
_MOMENTS = ("mean", "m2", "m3")


@dataclasses.dataclass(frozen=True)
class Statement:
    """One row of the table.

    Attributes:
        id: name of the statement on the command line.
        claim: the claim in words.
        chain: the algorithm.
        equation: the equation said to track it.
        expected: expected verdict of the measurement.
        problems: problems of the test; every one must give the verdict.
        etas: step sizes of the exact measurement.
        observables: test functions.
        method: "exact", or "monte_carlo" if no exact engine covers the chain. `etas` are those of
            the method.
        paths: number of paths per step size, for Monte Carlo.
    """

    id: str
    claim: str
    chain: Chain
    equation: Equation
    expected: str
    problems: tuple[tuple[str, Problem], ...]
    etas: tuple[float, ...] = ETAS
    observables: tuple[str, ...] = _ALL
    method: str = "exact"
    paths: int = 1 << 15


def _on(*names: str) -> tuple[tuple[str, Problem], ...]:
    return tuple((name, PROBLEMS[name]) for name in names)


def _statement(
    id: str, claim: str, chain: str | Chain, equation: str, expected: str, *where: str, **more
) -> Statement:
    algorithm = CHAINS[chain] if isinstance(chain, str) else chain
    problems = more.pop("problems", None) or _on(*where)
    return Statement(id, claim, algorithm, EQUATIONS[equation], expected, problems, **more)


# A sharper kink (alpha = 2) puts the sqrt(eta) term well above the linear one on these rungs.
_SLIDING = (("sliding_kink, alpha=2", dataclasses.replace(PROBLEMS["sliding_kink"], alpha=2.0)),)
_SLIDING_ETAS = tuple(2.0**-k for k in range(6, 11))
# The cap is met at rho = 1.04, in the middle of the path, at a right angle.
_CROSSED = dataclasses.replace(PROBLEMS["double_well"], rho_max=1.04, transversal=True)
_FIXED = {
    "lagged": RememberingPGPO(beta=0.5, lagged=True),
    "inclusive": RememberingPGPO(beta=0.5, lagged=False),
}
# The mean starts away from the signal (constant on the quadratic), so that its lag is seen.
_SLOW = RememberingPGPO(beta=None, rate=2.0, lagged=True, initial_information=1.0)

_ROWS = (
    _statement(
        "sgd-eq7",
        "Eq. 7, with sqrt(eta), tracks SGD",
        "sgd",
        "eq7",
        "order 1",
        "quadratic",
        "student_teacher",
    ),
    _statement(
        "thm2i-literal",
        "Theorem 2(i) as printed, without sqrt(eta), tracks SGD",
        "sgd",
        "thm2i_literal",
        "order 0",
        "quadratic",
        "student_teacher",
    ),
    _statement(
        "sgd-ode",
        "no noise at all tracks SGD just as well",
        "sgd",
        "ode",
        "order 1",
        "quadratic",
        "student_teacher",
    ),
    _statement(
        "thm2ii-population",
        "Theorem 2(ii), with sqrt(eta), tracks PGPO told the population signal",
        "pgpo_population",
        "thm2ii",
        "order 1",
        "student_teacher",
        "logistic",
    ),
    _statement(
        "consistent-population",
        "the same with the diffusion rho sqrt(eta) Sigma^1/2",
        "pgpo_population",
        "consistent",
        "order 1",
        "student_teacher",
        "logistic",
    ),
    _statement(
        "thm2ii-minibatch",
        "Theorem 2(ii) tracks PGPO as it is run, signal and gradient of one minibatch",
        "pgpo_minibatch",
        "thm2ii",
        "order 0",
        "student_teacher",
        "quadratic",
        "double_well",
    ),
    _statement(
        "jensen-minibatch",
        "replacing rho(I) by E[rho_B] repairs it",
        "pgpo_minibatch",
        "jensen",
        "order 0",
        "student_teacher",
        "quadratic",
        "double_well",
    ),
    _statement(
        "corrected-minibatch",
        "the drift -E[rho_B g_B] and the diffusion of Cov(rho_B g_B) repair it",
        "pgpo_minibatch",
        "corrected",
        "order 1",
        "student_teacher",
        "quadratic",
        "double_well",
    ),
    _statement(
        "second-order-sgd",
        "b - (eta/2)(Db)b with the chain's covariance is of order 2, for SGD",
        "sgd",
        "second_order",
        "order 2",
        "student_teacher",
    ),
    _statement(
        "second-order-population",
        "the same for PGPO told the population signal",
        "pgpo_population",
        "second_order",
        "order 2",
        "student_teacher",
    ),
    _statement(
        "second-order-minibatch",
        "the same for PGPO as it is run",
        "pgpo_minibatch",
        "second_order",
        "order 2",
        "student_teacher",
    ),
    _statement(
        "second-order-unchanged-diffusion-population",
        "the second-order drift with the diffusion left unchanged is of order 2",
        "pgpo_population",
        "second_order_unchanged_diffusion",
        "order 1",
        "student_teacher",
    ),
    _statement(
        "second-order-unchanged-diffusion-minibatch",
        "the same for PGPO as it is run",
        "pgpo_minibatch",
        "second_order_unchanged_diffusion",
        "order 1",
        "student_teacher",
    ),
    _statement(
        "second-order-gradient-form",
        "the modified loss of SGD, copied to PGPO in two dimensions, is of order 2",
        "pgpo_population",
        "second_order_gradient_form",
        "order 1",
        "torus",
    ),
    _statement(
        "second-order-torus",
        "b - (eta/2)(Db)b on the same problem",
        "pgpo_population",
        "second_order",
        "order 2",
        "torus",
        etas=_COARSE,
    ),
    _statement(
        "delayed-signal",
        "the signal of the previous minibatch: -E[rho_B] grad L keeps the stationary points of L",
        "pgpo_delayed",
        "averaged",
        "order 1",
        "quadratic",
        observables=_MOMENTS,
    ),
    *(
        row
        for which, chain in _FIXED.items()
        for row in (
            _statement(
                f"ema-fixed-paper-{which}",
                f"a running mean of the signal (beta = 0.5, {which}) justifies rho(I(theta))",
                chain,
                "thm2ii",
                "order 0",
                "quadratic",
                observables=_MOMENTS,
            ),
            _statement(
                f"ema-fixed-averaged-{which}",
                f"the drift averaged over the running mean (beta = 0.5, {which})",
                chain,
                "averaged",
                "order 1",
                "quadratic",
                observables=_MOMENTS,
            ),
        )
    ),
    _statement(
        "ema-slow-reduced",
        "a slow running mean (1 - beta = 2 eta) justifies rho(I(theta))",
        _SLOW,
        "thm2ii",
        "order 0",
        "quadratic",
        observables=_MOMENTS,
    ),
    _statement(
        "ema-slow-augmented",
        "the equation of the augmented state (theta, J)",
        _SLOW,
        "augmented",
        "order 1",
        "quadratic",
        observables=_MOMENTS,
    ),
    _statement(
        "kink-crossed",
        "a hard cap that is crossed keeps order 1",
        "pgpo_population",
        "thm2ii",
        "order 1",
        problems=(("double_well, rho_max=1.04", _CROSSED),),
    ),
    _statement(
        "second-order-kink-crossed",
        "a hard cap that is crossed keeps order 2",
        "pgpo_population",
        "second_order",
        "order 2",
        problems=(("double_well, rho_max=1.04", _CROSSED),),
        etas=_COARSE,
    ),
    _statement(
        "kink-sliding-unchanged",
        "sliding along the cap, the unchanged diffusion keeps order 1",
        "pgpo_population",
        "thm2ii",
        "order 1/2",
        problems=_SLIDING,
        etas=_SLIDING_ETAS,
        observables=_MOMENTS,
    ),
    _statement(
        "kink-sliding-ode",
        "sliding along the cap, no noise at all keeps order 1",
        "pgpo_population",
        "ode",
        "order 1/2",
        problems=_SLIDING,
        etas=_SLIDING_ETAS,
        observables=_MOMENTS,
    ),
    _statement(
        "kink-sliding-consistent",
        "sliding along the cap, the chain's own diffusion keeps order 1",
        "pgpo_population",
        "consistent",
        "order 1",
        problems=_SLIDING,
        etas=_SLIDING_ETAS,
        observables=_MOMENTS,
    ),
    _statement(
        "kink-sliding-softmin",
        "a smooth cap (tau = 0.3) gives order 1 back to the unchanged diffusion",
        "pgpo_population",
        "thm2ii",
        "order 1",
        problems=(("sliding_kink, alpha=2, softmin 0.3", _SLIDING[0][1].with_softmin(0.3)),),
        etas=_SLIDING_ETAS,
        observables=_MOMENTS,
    ),
    *(
        _statement(
            f"{name}-{equation}",
            claim,
            f"pgpo_{name}",
            equation.replace("population", "population_signal"),
            expected,
            "student_teacher",
            etas=ETAS,
            method="monte_carlo",
            paths=1 << 10,
        )
        for name in ("momentum", "rmsprop", "adam")
        for equation, claim, expected in (
            (
                "population",
                f"rho(I(theta)) in the equation of {name} tracks PGPO-{name} as it is run",
                "order 0",
            ),
            (
                "corrected",
                f"the chain's own b and S, with rho_B, track PGPO-{name} as it is run",
                "order 1",
            ),
        )
    ),
    *(
        _statement(
            f"second-order-{name}",
            f"b + eta c - (eta/2)(Db)b with the chain's covariance is of order 2, for PGPO-{name}",
            f"pgpo_{name}",
            "second_order",
            "order 2",
            "student_teacher",
            etas=MONTE_CARLO_ETAS,
            method="monte_carlo",
            paths=1 << 12,
        )
        for name in ("momentum", "rmsprop")
    ),
    _statement(
        "second-order-rmsprop-independent-noise",
        "Brownian motions of their own for theta and the second moment keep order 2",
        "pgpo_rmsprop",
        "second_order_independent_noise",
        "order 1",
        "student_teacher",
        etas=MONTE_CARLO_ETAS,
        method="monte_carlo",
        paths=1 << 12,
    ),
)

STATEMENTS = MappingProxyType({row.id: row for row in _ROWS})
"""The statements of the theory by id, each with the verdict that is expected."""
