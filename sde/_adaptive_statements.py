"""The statements about momentum, RMSprop and Adam, by Monte Carlo."""

from sde._statement import statement
from sde.order import ETAS, MONTE_CARLO_ETAS

ADAPTIVE_ROWS = (
    *(
        statement(
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
        statement(
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
    statement(
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
