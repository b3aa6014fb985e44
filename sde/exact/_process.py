"""A chain or an equation on concrete numbers: next states, drifts and diffusions at many points."""

import functools as ft
import math
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from sde import _fields as fields
from sde._chains import Chain
from sde._equations import Equation
from sde._minibatches import minibatches
from sde._psd import check_psd
from sde._setting import Setting
from sde.exact._blocks import BLOCK, block_of, in_blocks
from sde.problems import Problem

# One state so short may use the program of the grids, with a whole block of states. For longer ones
# or many minibatches the block costs more than a program for one state.
_FEW = 2
# Of order eta for every chain and problem.
_VANISHING = (
    fields.diffusion_none,
    fields.diffusion_sgd,
    fields.diffusion_population,
    fields.diffusion_chain,
)


@dataclass(frozen=True)
class Process:
    """What the exact engines work on; `equation=None` means the chain itself.

    `limit` takes the coefficients of the equation at a step size of zero; eta then says only when
    its values are asked for.
    """

    problem: Problem
    chain: Chain
    equation: Equation | None
    eta: float
    batch_size: int = 1
    replace: bool = True
    limit: bool = False

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

            # A program holds the data of every example for every state and minibatch.
            numbers = len(self.weights) * max(len(self.start), self.problem.num_examples)
            return in_blocks(run, states, block_of(numbers))[0]

    def coefficients(
        self, states: Float[np.ndarray, "P m"]
    ) -> tuple[Float[np.ndarray, "P m"], Float[np.ndarray, "P m m"]]:
        """Drift and diffusion matrix of the equation at each state; checked to be a diffusion."""
        drift, diffusion = self._evaluate(states)
        check_psd(diffusion, self.name)
        return drift, diffusion

    @property
    def noisy(self) -> bool:
        """Whether the equation has noise; in the limit, looked at about the start."""
        assert self.equation is not None
        if self.equation.diffusion is fields.diffusion_none:
            return False
        if not self.limit:
            return True
        if self.equation.diffusion in _VANISHING:
            return False
        probes = self.start + np.array([[-0.3], [0.0], [0.3]])
        if self.light:
            _, diffusion = self._evaluate(probes)
        else:
            with jax.enable_x64(True):
                _, diffusion = _coefficients(self._how, probes, self._at)
        return bool(np.any(np.asarray(diffusion) != 0.0))

    @ft.cached_property
    def light(self) -> bool:
        """Whether a block of states costs little more than one."""
        minibatches = self.batch_size * math.log(self.problem.num_examples)
        return len(self.start) <= _FEW and minibatches <= math.log(BLOCK) + 1e-9

    def drift(self, state: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """The equation's drift at one state."""
        with jax.enable_x64(True):
            if self.light:
                block = np.tile(state, (BLOCK, 1))
                return np.asarray(_coefficients(self._how, block, self._at)[0])[0]
            return np.asarray(_drift(self._how, state, self._at))

    @property
    def _how(self) -> tuple:
        assert self.equation is not None
        return self.problem, self.chain, self.equation, self.batch_size, self.replace

    @property
    def _at(self) -> float:
        return 0.0 if self.limit else self.eta

    def _evaluate(self, states: Float[np.ndarray, "P m"]) -> list[np.ndarray]:
        with jax.enable_x64(True):
            return in_blocks(lambda block: _coefficients(self._how, block, self._at), states)


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
