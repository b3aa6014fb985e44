"""A chain or an equation on concrete numbers: next states, drifts and diffusions at many points."""

import functools as ft
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from sde._chains import Chain
from sde._equations import Equation
from sde._minibatches import minibatches
from sde._psd import check_psd
from sde._setting import Setting
from sde.problems import Problem

# Points evaluated at once.
_BLOCK = 256


@dataclass(frozen=True)
class Process:
    """What the exact engines work on; `equation=None` means the chain itself."""

    problem: Problem
    chain: Chain
    equation: Equation | None
    eta: float
    batch_size: int = 1
    replace: bool = True

    @property
    def name(self) -> str:
        """For messages."""
        what = type(self.chain).__name__ if self.equation is None else repr(self.equation.name)
        return f"{what} on {type(self.problem).__name__}"

    @ft.cached_property
    def start(self) -> Float[np.ndarray, " m"]:
        """The first state."""
        with jax.enable_x64(True):
            if self.equation is None:
                return np.asarray(self.chain.initial_state(self.problem))
            return np.asarray(self.equation.start(self.problem, self.chain))

    @ft.cached_property
    def weights(self) -> Float[np.ndarray, " M"]:
        """The probabilities of the minibatches."""
        return self._batches.probabilities

    @property
    def _batches(self):
        return minibatches(self.problem.num_examples, self.batch_size, self.replace)

    def next_states(self, states: Float[np.ndarray, "P m"]) -> Float[np.ndarray, "P M m"]:
        """Where the chain goes from each state with each minibatch."""
        with jax.enable_x64(True):
            batches = self.chain.batch_rows(self._batches)

            def run(block):
                return (_next_states(self.problem, self.chain, block, batches, self.eta),)

            return _blockwise(run, states)[0]

    def coefficients(
        self, states: Float[np.ndarray, "P m"]
    ) -> tuple[Float[np.ndarray, "P m"], Float[np.ndarray, "P m m"]]:
        """Drift and diffusion matrix of the equation at each state; checked to be a diffusion."""
        assert self.equation is not None
        how = (self.problem, self.chain, self.equation, self.batch_size, self.replace)
        with jax.enable_x64(True):
            drift, diffusion = _blockwise(lambda block: _coefficients(how, block, self.eta), states)
        check_psd(diffusion, self.name)
        return drift, diffusion

    def drift(self, state: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """The equation's drift at one state."""
        assert self.equation is not None
        how = (self.problem, self.chain, self.equation, self.batch_size, self.replace)
        with jax.enable_x64(True):
            return np.asarray(_drift(how, state, self.eta))


def _blockwise(run, states: np.ndarray) -> list[np.ndarray]:
    """Apply a compiled function to blocks of one size, so that it is compiled once."""
    missing = -len(states) % _BLOCK
    padded = np.concatenate([states, np.repeat(states[:1], missing, axis=0)])
    parts = [run(block) for block in padded.reshape(-1, _BLOCK, states.shape[1])]
    return [
        np.concatenate([np.asarray(part) for part in out])[: len(states)]
        for out in zip(*parts, strict=True)
    ]


@ft.partial(jax.jit, static_argnums=(0, 1))
def _next_states(problem, chain, states, batches, eta):
    def one(state, batch):
        return chain.step(problem, state, batch, eta)

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(states, batches)


@ft.partial(jax.jit, static_argnums=0)
def _coefficients(how, states, eta):
    problem, chain, equation, batch_size, replace = how
    setting = Setting(problem, eta, batch_size, replace)

    def one(state):
        return equation.drift(chain, setting, state), equation.diffusion(chain, setting, state)

    return jax.vmap(one)(states)


@ft.partial(jax.jit, static_argnums=0)
def _drift(how, state, eta):
    problem, chain, equation, batch_size, replace = how
    return equation.drift(chain, Setting(problem, eta, batch_size, replace), state)
