r"""Momentum, RMSprop and Adam with PGPO's multiplier, with decays that go to 1 as eta goes to 0.

$$ m' = m + c_1\eta\,(g_B - m),\quad v' = v + c_2\eta\,(g_B^2 - v),\quad
   \theta' = \theta - \eta\,\rho_B\Big(\frac{m'}{\sqrt{v'} + \epsilon} + \lambda\theta\Big) $$

A chain leaves out the parts that it does not have. This is the ballistic regime of Callisti, Romito
and Triggiano (arXiv 2509.21614). The moments start at given numbers, so no bias correction is
needed. Adam's correction would divide 0 by 0 at the first step of the limit.
"""

import functools as ft
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from pgpo_jax.errors import PGPOValueError
from sde._state_chain import StateChain
from sde.problems import Problem


@ft.lru_cache(maxsize=64)
def adaptive_chain(
    *,
    first: float | None = None,
    second: float | None = None,
    epsilon: float = 0.1,
    weight_decay: float = 0.0,
    decay_inside: bool = True,
    second_start: float = 1.0,
    signal: str = "minibatch",
    name: str = "adaptive",
) -> StateChain:
    r"""Momentum (`first` alone), RMSprop (`second` alone) or Adam (both), scaled by rho.

    The same arguments give the same chain. Its b and S are derived from the step: with
    P = sqrt(v) + epsilon,

    * momentum and Adam move theta along m, which no single minibatch moves at order 1:
      $b_\theta = -E[\rho_B]\,m/P$. The covariance of signal and gradient enters at order 2;
    * RMSprop moves theta along $g_B$: $b_\theta = -E[\rho_B g_B]/P$, and the noise of theta is
      correlated with that of v, $-c_2\mathrm{Cov}(\rho_B g_B, g_B^2)/P$.

    In both $b_v = c_2(E[g_B^2] - v)$, the second moment of the minibatch and not
    $(\nabla L)^2$.

    Args:
        first: rate c_1 per unit of time, or `None` for no momentum.
        second: rate c_2 per unit of time, or `None` for no second moment.
        epsilon: number added to the root of v.
        weight_decay: lambda of the decoupled weight decay.
        decay_inside: whether rho also scales the decay (optax.adamw inside `pgpo`), or only the
            part of the gradient.
        second_start: v at the start.
        signal: "minibatch", as Algorithm 1 is run, or "population", I(theta).
        name: name in reports.

    Returns:
        A chain of (theta, m, v) without the parts it does not have.

    Raises:
        ValueError: neither rate is given, or a rate, epsilon or start is not positive.

    >>> import jax, sde
    >>> adam = adaptive_chain(first=2.0, second=1.0, name="adam")
    >>> sde.run_chain("torus", adam, eta=1 / 4, paths=5, key=jax.random.key(0)).shape
    (5, 2)

    Added in version 0.2.0.
    """
    if first is None and second is None:
        raise PGPOValueError("first or second must be a rate, got None for both")
    positive = {"first": first, "second": second, "epsilon": epsilon, "second_start": second_start}
    for what, value in positive.items():
        if value is not None and not 0.0 < value < math.inf:
            raise PGPOValueError(f"{what} must be a positive number, got {value!r}")
    if not 0.0 <= weight_decay < math.inf:
        raise PGPOValueError(f"weight_decay must be a number >= 0, got {weight_decay!r}")
    if signal not in ("minibatch", "population"):
        raise PGPOValueError(f"signal must be 'minibatch' or 'population', got {signal!r}")

    def begin(problem: Problem) -> dict[str, Array]:
        state = {"theta": problem.start}
        if first is not None:
            state["m"] = jnp.zeros(problem.dim)
        if second is not None:
            state["v"] = jnp.full(problem.dim, second_start)
        return state

    def advance(problem: Problem, state: Any, examples: Any, eta: Any) -> dict[str, Array]:
        theta = state["theta"]
        gradient = jnp.mean(problem.gradients(theta)[examples], axis=0)
        new, direction = {}, gradient
        if first is not None:
            direction = new["m"] = state["m"] + first * eta * (gradient - state["m"])
        if second is not None:
            new["v"] = state["v"] + second * eta * (gradient**2 - state["v"])
            direction = direction / (jnp.sqrt(new["v"]) + epsilon)
        if signal == "population":
            rho = problem.multiplier(problem.information(theta))
        else:
            rho = problem.multiplier(jnp.mean(problem.signals(theta)[examples]))
        decay = weight_decay * theta
        step = rho * (direction + decay) if decay_inside else rho * direction + decay
        return new | {"theta": theta - eta * step}

    population = None
    if signal == "minibatch":
        population = adaptive_chain(
            first=first,
            second=second,
            epsilon=epsilon,
            weight_decay=weight_decay,
            decay_inside=decay_inside,
            second_start=second_start,
            signal="population",
            name=f"{name}_population",
        )
    return StateChain(begin, advance, _theta, name=name, population=population)


def _theta(state: dict[str, Array]) -> Array:
    return state["theta"]
