"""A problem with a step size and a way of drawing minibatches."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from sde._minibatches import Minibatches, covariance_factor, minibatches
from sde.problems import Problem


@dataclass(frozen=True)
class Setting:
    r"""The arguments of every drift and diffusion other than the state.

    Args:
        problem: the finite sum and its signals.
        eta: the step size; may be a tracer.
        batch_size: |B|.
        replace: whether minibatches are drawn with replacement.

    >>> from sde.problems import PROBLEMS
    >>> setting = Setting(PROBLEMS["quadratic"], 0.1, 1, True)
    >>> probabilities, gradients, signals = setting.enumerate(jnp.array([1.5]))
    >>> gradients.shape
    (4, 1)
    """

    problem: Problem
    eta: Any
    batch_size: int = 1
    replace: bool = True

    @property
    def batches(self) -> Minibatches:
        """All minibatches and their probabilities."""
        return minibatches(self.problem.num_examples, self.batch_size, self.replace)

    def enumerate(
        self, theta: Float[Array, " d"]
    ) -> tuple[Float[Array, " M"], Float[Array, "M d"], Float[Array, " M"]]:
        """Probabilities `[M]`, gradients `[M, d]` and signals `[M]` (nats) of all minibatches."""
        fractions = jnp.asarray(self.batches.fractions, theta.dtype)
        weights = jnp.asarray(self.batches.probabilities, theta.dtype)
        return (
            weights,
            fractions @ self.problem.gradients(theta),
            fractions @ self.problem.signals(theta),
        )

    def gradient_covariance(self, theta: Float[Array, " d"]) -> Float[Array, "d d"]:
        r"""$\Sigma_B$: Eq. 5 of the paper times 1/|B|, or the finite-population factor."""
        centred, factor = self._centred(theta)
        return factor * (centred.T @ centred) / centred.shape[0]

    def gradient_deviations(self, theta: Float[Array, " d"]) -> Float[Array, "N d"]:
        r"""D with $D^TD = \Sigma_B$: gradients less their mean, scaled."""
        centred, factor = self._centred(theta)
        return jnp.sqrt(jnp.asarray(factor / centred.shape[0], centred.dtype)) * centred

    def _centred(self, theta: Float[Array, " d"]) -> tuple[Float[Array, "N d"], float]:
        gradients = self.problem.gradients(theta)
        factor = covariance_factor(self.problem.num_examples, self.batch_size, self.replace)
        return gradients - jnp.mean(gradients, axis=0), factor


def weighted_covariance(
    weights: Float[Array, " M"], left: Float[Array, "M m"], right: Float[Array, "M n"]
) -> Float[Array, "m n"]:
    """Covariance of two vectors under the probabilities `weights`."""
    centred_left = left - weights @ left
    centred_right = right - weights @ right
    return jnp.einsum("M,Mm,Mn->mn", weights, centred_left, centred_right)


def weighted_deviations(
    weights: Float[Array, " M"], moves: Float[Array, "M m"]
) -> Float[Array, "M m"]:
    """D with D^T D = `weighted_covariance(weights, moves, moves)`."""
    return jnp.sqrt(weights)[:, None] * (moves - weights @ moves)
