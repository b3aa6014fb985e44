"""A problem, a chain and an optimizer of one's own for the laboratory, in three dimensions.

    pgpo weak-order --problem examples/own_problem.py:Bowl --equation corrected \\
        --chain examples/own_problem.py:momentum --method monte_carlo --paths 4096 \\
        --etas 0.25 0.125 0.0625 0.03125 0.015625

`Bowl` is a finite sum of five examples; `momentum` is heavy-ball momentum, whose derived equation
(`corrected`) moves (theta, momentum); `adamw` is optax's own AdamW below PGPO's multiplier.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import optax

import pgpo_jax as pgpo
import sde


@dataclass(frozen=True, kw_only=True)
class Bowl(sde.Problem):
    """Five quartic bowls about different centres; examples that are far off tell more."""

    theta0: tuple[float, ...] = (0.9, -0.4, 0.2)

    def losses(self, theta):
        apart = theta - self.centres()
        return jnp.sum(0.5 * apart**2 + 0.05 * apart**4, axis=1)

    def signals(self, theta):
        return 0.5 * jnp.tanh(self.centres() @ theta)

    def centres(self):
        return jnp.asarray(
            [
                [0.5, 0.0, -0.3],
                [-0.5, 0.2, 0.0],
                [0.0, -0.5, 0.4],
                [0.3, 0.4, -0.2],
                [-0.3, -0.1, 0.1],
            ]
        )


def begin(problem):
    return problem.start, jnp.zeros(problem.dim)


def advance(problem, state, examples, eta):
    theta, velocity = state
    gradient = problem.gradients(theta)[examples].mean(axis=0)
    velocity = velocity + 2.0 * eta * (gradient - velocity)
    rho = problem.multiplier(problem.signals(theta)[examples].mean())
    return theta - eta * rho * velocity, velocity


momentum = sde.StateChain(begin, advance, name="momentum")

adamw = sde.optax_chain(
    lambda **given: pgpo.pgpo(optax.adamw(**given), alpha=0.7),
    regime="ballistic",
    b1=1.0,
    b2=2.0,
    eps=0.1,
    weight_decay=0.01,
    name="pgpo_adamw",
)
