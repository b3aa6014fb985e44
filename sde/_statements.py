"""The table of statements: the claims of the paper, ours, and some that are tempting."""

import dataclasses
from types import MappingProxyType

from sde._adamw_statements import ADAMW_ROWS
from sde._adaptive_statements import ADAPTIVE_ROWS
from sde._brake_statements import BRAKE_ROWS
from sde._chains import RememberingPGPO
from sde._statement import MOMENTS, Statement as Statement, statement
from sde.problems import PROBLEMS

# The Fourier engine of the torus resolves 1e-8, and the grid of a chain with a kink resolves 1e-7.
# An error of order 2 soon falls to these values.
_COARSE = tuple(2.0**-k for k in range(3, 8))
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
    statement(
        "sgd-eq7",
        "Eq. 7, with sqrt(eta), tracks SGD",
        "sgd",
        "eq7",
        "order 1",
        "quadratic",
        "student_teacher",
    ),
    statement(
        "thm2i-literal",
        "Theorem 2(i) as printed, without sqrt(eta), tracks SGD",
        "sgd",
        "thm2i_literal",
        "order 0",
        "quadratic",
        "student_teacher",
    ),
    statement(
        "sgd-ode",
        "no noise at all tracks SGD just as well",
        "sgd",
        "ode",
        "order 1",
        "quadratic",
        "student_teacher",
    ),
    statement(
        "thm2ii-population",
        "Theorem 2(ii), with sqrt(eta), tracks PGPO told the population signal",
        "pgpo_population",
        "thm2ii",
        "order 1",
        "student_teacher",
        "logistic",
    ),
    statement(
        "consistent-population",
        "the same with the diffusion rho sqrt(eta) Sigma^1/2",
        "pgpo_population",
        "consistent",
        "order 1",
        "student_teacher",
        "logistic",
    ),
    statement(
        "thm2ii-minibatch",
        "Theorem 2(ii) tracks PGPO as it is run, signal and gradient of one minibatch",
        "pgpo_minibatch",
        "thm2ii",
        "order 0",
        "student_teacher",
        "quadratic",
        "double_well",
    ),
    statement(
        "jensen-minibatch",
        "replacing rho(I) by E[rho_B] repairs it",
        "pgpo_minibatch",
        "jensen",
        "order 0",
        "student_teacher",
        "quadratic",
        "double_well",
    ),
    statement(
        "corrected-minibatch",
        "the drift -E[rho_B g_B] and the diffusion of Cov(rho_B g_B) repair it",
        "pgpo_minibatch",
        "corrected",
        "order 1",
        "student_teacher",
        "quadratic",
        "double_well",
    ),
    statement(
        "second-order-sgd",
        "b - (eta/2)(Db)b with the chain's covariance is of order 2, for SGD",
        "sgd",
        "second_order",
        "order 2",
        "student_teacher",
    ),
    statement(
        "second-order-population",
        "the same for PGPO told the population signal",
        "pgpo_population",
        "second_order",
        "order 2",
        "student_teacher",
    ),
    statement(
        "second-order-minibatch",
        "the same for PGPO as it is run",
        "pgpo_minibatch",
        "second_order",
        "order 2",
        "student_teacher",
    ),
    statement(
        "second-order-unchanged-diffusion-population",
        "the second-order drift with the diffusion left unchanged is of order 2",
        "pgpo_population",
        "second_order_unchanged_diffusion",
        "order 1",
        "student_teacher",
    ),
    statement(
        "second-order-unchanged-diffusion-minibatch",
        "the same for PGPO as it is run",
        "pgpo_minibatch",
        "second_order_unchanged_diffusion",
        "order 1",
        "student_teacher",
    ),
    statement(
        "second-order-gradient-form",
        "the modified loss of SGD, copied to PGPO in two dimensions, is of order 2",
        "pgpo_population",
        "second_order_gradient_form",
        "order 1",
        "torus",
    ),
    statement(
        "second-order-torus",
        "b - (eta/2)(Db)b on the same problem",
        "pgpo_population",
        "second_order",
        "order 2",
        "torus",
        etas=_COARSE,
    ),
    statement(
        "delayed-signal",
        "the signal of the previous minibatch: -E[rho_B] grad L keeps the stationary points of L",
        "pgpo_delayed",
        "averaged",
        "order 1",
        "quadratic",
        observables=MOMENTS,
    ),
    *(
        row
        for which, chain in _FIXED.items()
        for row in (
            statement(
                f"ema-fixed-paper-{which}",
                f"a running mean of the signal (beta = 0.5, {which}) justifies rho(I(theta))",
                chain,
                "thm2ii",
                "order 0",
                "quadratic",
                observables=MOMENTS,
            ),
            statement(
                f"ema-fixed-averaged-{which}",
                f"the drift averaged over the running mean (beta = 0.5, {which})",
                chain,
                "averaged",
                "order 1",
                "quadratic",
                observables=MOMENTS,
            ),
        )
    ),
    statement(
        "ema-slow-reduced",
        "a slow running mean (1 - beta = 2 eta) justifies rho(I(theta))",
        _SLOW,
        "thm2ii",
        "order 0",
        "quadratic",
        observables=MOMENTS,
    ),
    statement(
        "ema-slow-augmented",
        "the equation of the augmented state (theta, J)",
        _SLOW,
        "augmented",
        "order 1",
        "quadratic",
        observables=MOMENTS,
    ),
    statement(
        "kink-crossed",
        "a hard cap that is crossed keeps order 1",
        "pgpo_population",
        "thm2ii",
        "order 1",
        problems=(("double_well, rho_max=1.04", _CROSSED),),
    ),
    statement(
        "second-order-kink-crossed",
        "a hard cap that is crossed keeps order 2",
        "pgpo_population",
        "second_order",
        "order 2",
        problems=(("double_well, rho_max=1.04", _CROSSED),),
        etas=_COARSE,
    ),
    statement(
        "kink-sliding-unchanged",
        "sliding along the cap, the unchanged diffusion keeps order 1",
        "pgpo_population",
        "thm2ii",
        "order 1/2",
        problems=_SLIDING,
        etas=_SLIDING_ETAS,
        observables=MOMENTS,
    ),
    statement(
        "kink-sliding-ode",
        "sliding along the cap, no noise at all keeps order 1",
        "pgpo_population",
        "ode",
        "order 1/2",
        problems=_SLIDING,
        etas=_SLIDING_ETAS,
        observables=MOMENTS,
    ),
    statement(
        "kink-sliding-consistent",
        "sliding along the cap, the chain's own diffusion keeps order 1",
        "pgpo_population",
        "consistent",
        "order 1",
        problems=_SLIDING,
        etas=_SLIDING_ETAS,
        observables=MOMENTS,
    ),
    statement(
        "kink-sliding-softmin",
        "a smooth cap (tau = 0.3) gives order 1 back to the unchanged diffusion",
        "pgpo_population",
        "thm2ii",
        "order 1",
        problems=(("sliding_kink, alpha=2, softmin 0.3", _SLIDING[0][1].with_softmin(0.3)),),
        etas=_SLIDING_ETAS,
        observables=MOMENTS,
    ),
    *ADAPTIVE_ROWS,
    *ADAMW_ROWS,
    *BRAKE_ROWS,
)

STATEMENTS = MappingProxyType({row.id: row for row in _ROWS})
"""The statements of the theory by id, each with the verdict that is expected."""
