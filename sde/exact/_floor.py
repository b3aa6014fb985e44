"""The limit of an error of order 0, from two noise-free paths."""

import dataclasses
import functools as ft
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sde import _fields as fields
from sde._chains import Chain
from sde._equations import Equation
from sde._setting import Setting
from sde.exact._expectation import make_process
from sde.exact._observables import Observable, as_observable
from sde.exact._process import Process
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
    assert model.equation is not None
    model = dataclasses.replace(model, equation=_limit(model.equation, _keeps_noise(model)))
    coarse = horizon / 16
    count = 16
    sides = [
        exact_path(dataclasses.replace(side, eta=coarse), (observable,), count, 1e-9)
        for side in (model, tracked)
    ]
    return float(sides[0].values[-1, 0] - sides[1].values[-1, 0])


_VANISHING = (
    fields.diffusion_none,
    fields.diffusion_sgd,
    fields.diffusion_population,
    fields.diffusion_chain,
)


def _keeps_noise(process: Process) -> bool:
    """Whether the diffusion matrix near the start does not vanish at eta = 0."""
    equation = process.equation
    assert equation is not None
    if equation.diffusion in _VANISHING:
        return False
    setting = Setting(process.problem, 0.0, process.batch_size, process.replace)
    with jax.enable_x64(True):
        states = [jnp.asarray(process.start) + offset for offset in (-0.3, 0.0, 0.3)]
        found = [equation.diffusion(process.chain, setting, state) for state in states]
    return any(np.any(np.asarray(matrix) != 0.0) for matrix in found)


@ft.lru_cache(maxsize=64)
def _limit(equation: Equation, noisy: bool) -> Equation:
    """The equation at eta = 0."""

    def still(setting):
        return dataclasses.replace(setting, eta=0.0 * setting.eta)

    def drift(chain, setting, state):
        return equation.drift(chain, still(setting), state)

    def diffusion(chain, setting, state):
        return equation.diffusion(chain, still(setting), state)

    return dataclasses.replace(
        equation, drift=drift, diffusion=diffusion if noisy else fields.diffusion_none
    )
