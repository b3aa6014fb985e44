"""The limit of an error of order 0, from two noise-free paths."""

import dataclasses
from collections.abc import Callable

from sde._chains import Chain
from sde._equations import Equation
from sde.exact._expectation import make_process
from sde.exact._observables import Observable, as_observable
from sde.exact._solve import exact_path
from sde.problems import Problem


def ode_floor(
    problem: str | Problem,
    chain: str | Chain,
    equation: str | Equation,
    observable: str | Callable | Observable,
    *,
    horizon: float = 1.0,
    batch_size: int = 1,
    replace: bool = True,
) -> float:
    r"""The limit of $E g(X_T) - E g(\theta_K)$ as eta goes to zero.

    Both sides become deterministic, $g(x_T) - g(y_T)$ with $\dot x = b_{eq}(x)$ and
    $\dot y = b_{chain}(y)$: two ODE solves, in any dimension. A printed diffusion without its
    $\sqrt\eta$ does not vanish; its side is then an exact expectation.

    Args:
        problem: a name in `sde.PROBLEMS`, or an object.
        chain: a name in `sde.CHAINS`, or an object.
        equation: a name in `sde.EQUATIONS`, or an object.
        observable: a name or a function of theta.
        horizon: T.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.

    Returns:
        The signed floor; zero (to 1e-9) means that the equation is of order > 0.

    >>> import sde
    >>> round(sde.ode_floor("student_teacher", "pgpo_minibatch", "thm2ii", "mean"), 5)
    -0.20454
    """
    observable = as_observable(observable)
    tracked = make_process(problem, chain, "ode", 1.0, batch_size, replace)
    model = make_process(problem, chain, equation, 1.0, batch_size, replace)
    coarse = horizon / 16
    count = 16
    sides = [
        exact_path(side, (observable,), count, 1e-9)
        for side in (
            dataclasses.replace(model, eta=coarse, limit=True),
            dataclasses.replace(tracked, eta=coarse),
        )
    ]
    return float(sides[0].values[-1, 0] - sides[1].values[-1, 0])
