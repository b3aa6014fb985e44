"""The equations that are claimed to track a chain, and some that could be mistaken for one."""

import functools as ft
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, ScalarLike

from pgpo_jax.errors import PGPOValueError
from sde import _fields as fields
from sde._chains import Chain
from sde._minibatches import check_batch
from sde._psd import check_noise, psd_root
from sde._setting import Setting
from sde.problems import Problem

# The noise of a longer state is made of deviations, without a matrix and its root.
_MOST_DENSE = 16
_Field = Callable[[Chain, Setting, Float[Array, " m"]], Array]


def as_eta(eta: Any) -> float:
    """A step size as a float; refused unless it is positive."""
    one = isinstance(eta, int | float) or getattr(eta, "shape", None) == ()
    number = float(eta) if one and np.asarray(eta).dtype.kind in "iuf" else math.nan
    if not 0.0 < number < math.inf:
        raise PGPOValueError(f"eta must be a positive number, got {eta!r}")
    return number


@dataclass(frozen=True)
class Coefficients:
    r"""$dX = b(X)\,dt + \sigma(X)\,dW$ in Itô's sense, ready to integrate.

    Attributes:
        drift: function from a state `[m]` to the drift `[m]`, per unit of time (1/eta steps).
        diffusion_matrix: function from a state `[m]` to $\sigma\sigma^T$ `[m, m]`, with all factors
            of eta.
        x0: initial state, `m` numbers.
        deviations: function from a state to D `[q, m]` with $D^TD = \sigma\sigma^T$, or to `None`.
            If m is above 16, the noise is made of D. The cost of a step then is linear in m.

    >>> still = Coefficients(lambda x: -x, lambda x: jnp.zeros((1, 1)), (1.0,))
    >>> still.dim
    1
    """

    drift: Callable[[Float[Array, " m"]], Float[Array, " m"]]
    diffusion_matrix: Callable[[Float[Array, " m"]], Float[Array, "m m"]]
    x0: tuple[float, ...]
    deviations: Callable[[Float[Array, " m"]], Float[Array, "q m"] | None] | None = None

    @property
    def dim(self) -> int:
        """m, the length of the state."""
        return len(self.x0)

    @property
    def factored(self) -> bool:
        """Whether the noise is made of deviations."""
        if self.deviations is None or self.dim <= _MOST_DENSE:
            return False
        return jax.eval_shape(self.deviations, jnp.asarray(self.x0)) is not None

    def noise(self, state: Float[Array, " m"]) -> Float[Array, "q m"]:
        """What the noise is made of: D if `factored`, and else the `diffusion_matrix`."""
        if not self.factored:
            return self.diffusion_matrix(state)
        assert self.deviations is not None
        rows = self.deviations(state)
        assert rows is not None
        return rows

    def diffusion(self, state: Float[Array, " m"]) -> Float[Array, "m q"]:
        """sigma: the symmetric positive semi-definite root of `diffusion_matrix`, or D transposed.

        All have the same law.
        """
        return self.noise(state).T if self.factored else psd_root(self.diffusion_matrix(state))


@dataclass(frozen=True)
class Equation:
    r"""A drift and a diffusion matrix, each a function of (chain, setting, state).

    Mix your own with `dataclasses.replace(EQUATIONS["corrected"], diffusion=...)`.

    Attributes:
        name: name in errors and reports.
        formula: description in words.
        source: source of the equation.
        drift: (chain, setting, state `[m]`) -> `[m]`.
        diffusion: (chain, setting, state `[m]`) -> `[m, m]`, eta included.
        order: claimed weak order for the chain that it was written for.
        follows_chain: whether drift or diffusion use the chain's own b and S. The state then begins
            at the chain's `equation_start`.
        tracks: function of a chain. It gives `None`, or what the equation needs and the chain
            lacks, in words. `None`: the equation is for any chain.

    >>> EQUATIONS["corrected"].order
    1
    """

    name: str
    formula: str
    source: str
    drift: _Field
    diffusion: _Field
    order: int = 1
    follows_chain: bool = False
    tracks: Callable[[Chain], str | None] | None = None

    def check(self, problem: Problem, chain: Chain) -> None:
        """Refuse a combination that has no meaning.

        Raises:
            ValueError: the chain has no b and S although they are needed. Or order 2 is asked
                without smoothness or for a chain with memory. Or `tracks` refuses the chain: for
                `averaged` and `augmented`, one with the other kind of memory. Or the drift or the
                diffusion has another shape than the state needs.
        """
        if self.follows_chain:
            chain.check_limit(problem)
        if self.order == 2 and chain.modulated and not problem.smooth:
            raise PGPOValueError(
                f"{self.name!r} claims order 2, which needs a smooth multiplier; "
                f"{type(problem).__name__} has the hard cap rho_max={problem.rho_max!r}. Set "
                "softmin, or transversal=True if the path crosses the kink once and does not slide."
            )
        if self.order == 2 and not chain.memoryless:
            raise PGPOValueError(
                f"{self.name!r} rests on the moments of one step and needs a chain without memory, "
                f"got {chain!r}"
            )
        if self.tracks is not None:
            wanted = self.tracks(chain)
            if wanted is not None:
                raise PGPOValueError(f"{self.name!r} {wanted}, got {chain!r}")
        _check_shapes(self, problem, chain)

    def start(self, problem: Problem, chain: Chain) -> Float[Array, " m"]:
        """Where the equation starts: theta0, or (theta0, J_0) for the augmented state."""
        return chain.equation_start(problem) if self.follows_chain else problem.start

    def deviations(
        self, chain: Chain, setting: Setting
    ) -> Callable[[Float[Array, " m"]], Float[Array, "q m"] | None] | None:
        """The `deviations` of the coefficients, if the diffusion is known in that form."""
        if not isinstance(self.diffusion, fields.Factored):
            return None
        return ft.partial(self.diffusion.rows, chain, setting)

    def build(
        self,
        problem: Problem,
        chain: Chain,
        *,
        eta: ScalarLike,
        batch_size: int = 1,
        replace: bool = True,
    ) -> Coefficients:
        """The coefficients of this equation, for integration.

        Args:
            problem: the finite sum.
            chain: the chain that the equation is meant to track.
            eta: step size.
            batch_size: |B|.
            replace: whether minibatches are drawn with replacement.

        Returns:
            `Coefficients` of pure, traceable functions.

        Raises:
            ValueError: as `check`; or the diffusion matrix is not positive semi-definite at or near
                the start.
        """
        self.check(problem, chain)
        eta = as_eta(eta)
        check_batch(problem.num_examples, batch_size, replace)
        setting = Setting(problem, eta, batch_size, replace)

        def drift(state: Float[Array, " m"]) -> Float[Array, " m"]:
            return self.drift(chain, setting, state)

        def diffusion_matrix(state: Float[Array, " m"]) -> Float[Array, "m m"]:
            return self.diffusion(chain, setting, state)

        start = self.start(problem, chain)
        built = Coefficients(
            drift,
            diffusion_matrix,
            tuple(float(x) for x in start),
            self.deviations(chain, setting),
        )
        offsets = jnp.asarray(np.linspace(-0.3, 0.3, 7), start.dtype)[:, None]
        check_noise(
            np.asarray(jax.jit(jax.vmap(built.noise))(start + offsets)),
            built.factored,
            f"{self.name!r} on {type(problem).__name__}",
        )
        return built


@ft.lru_cache(maxsize=256)
def _check_shapes(equation: Equation, problem: Problem, chain: Chain) -> None:
    # As the engines compute: what the setting keeps may have been made with 64 bits.
    with jax.enable_x64(True):
        setting, state = Setting(problem, 0.01), equation.start(problem, chain)
    m = state.shape[0]
    for what, field, wanted in (
        ("drift", equation.drift, (m,)),
        ("diffusion", equation.diffusion, (m, m)),
    ):
        with jax.enable_x64(True):
            shape = jax.eval_shape(lambda x, field=field: field(chain, setting, x), state).shape
        if shape != wanted:
            raise PGPOValueError(
                f"the {what} of {equation.name!r} must have the shape {wanted} on "
                f"{type(problem).__name__}, got {shape}"
            )


def _fixed_memory(chain: Chain) -> str | None:
    if chain.remembers and not chain.tracks_memory:
        return None
    return "tracks a chain that remembers its signal with a fixed beta (pgpo_delayed, pgpo_ema)"


def _slow_memory(chain: Chain) -> str | None:
    if chain.tracks_memory:
        return None
    return (
        "tracks a running mean with 1 - beta = rate * eta, such as "
        "dataclasses.replace(CHAINS['pgpo_ema'], beta=None, rate=2.0)"
    )


def _has_population(chain: Chain) -> str | None:
    if chain.told_population is not None:
        return None
    return "is built from the same chain told I(theta), which the chain must name"


def _table(*equations: Equation) -> MappingProxyType[str, Equation]:
    return MappingProxyType({equation.name: equation for equation in equations})


_PAPER = "arXiv 2606.03620"
_LTE = "Li, Tai, E (JMLR 20(40), 2019)"

EQUATIONS = _table(
    Equation(
        "eq7",
        r"dθ = -∇L dt + √η Σ^{1/2} dW",
        f"{_PAPER}, Eq. 7; {_LTE}, order 1",
        fields.drift_sgd,
        fields.diffusion_sgd,
    ),
    Equation(
        "thm2i_literal",
        r"dθ = -∇L dt + Σ^{1/2} dW",
        f"{_PAPER}, Theorem 2(i) as printed",
        fields.drift_sgd,
        fields.diffusion_literal,
    ),
    Equation(
        "ode",
        r"dθ = b dt",
        "the limit of the chain without any noise",
        fields.drift_chain,
        fields.diffusion_none,
        follows_chain=True,
    ),
    Equation(
        "thm2ii",
        r"dθ = -ρ(I(θ)) ∇L dt + √η Σ^{1/2} dW",
        f"{_PAPER}, Theorem 2(ii) with the √η of Eq. 7",
        fields.drift_population,
        fields.diffusion_sgd,
    ),
    Equation(
        "thm2ii_literal",
        r"dθ = -ρ(I(θ)) ∇L dt + Σ^{1/2} dW",
        f"{_PAPER}, Theorem 2(ii) as printed",
        fields.drift_population,
        fields.diffusion_literal,
    ),
    Equation(
        "consistent",
        r"dθ = -ρ(I(θ)) ∇L dt + ρ √η Σ^{1/2} dW",
        "Theorem 2(ii) with the chain's own fluctuations",
        fields.drift_population,
        fields.diffusion_population,
    ),
    Equation(
        "jensen",
        r"dθ = -E[ρ_B] ∇L dt + √η Σ^{1/2} dW",
        "half of the repair: no covariance of ρ_B and g_B",
        fields.drift_jensen,
        fields.diffusion_sgd,
    ),
    Equation(
        "corrected",
        r"dθ = b dt + √η S^{1/2} dW; for Algorithm 1: b = -E[ρ_B g_B], S = Cov(ρ_B g_B)",
        "the chain's own drift and covariance",
        fields.drift_chain,
        fields.diffusion_chain,
        follows_chain=True,
    ),
    Equation(
        "averaged",
        r"dθ = -E_π[ρ(J)] ∇L dt + √η S^{1/2} dW (lagged), S of Green and Kubo",
        "averaging over a fast running mean of the signal",
        fields.drift_chain,
        fields.diffusion_chain,
        follows_chain=True,
        tracks=_fixed_memory,
    ),
    Equation(
        "augmented",
        r"dθ = -ρ(J) ∇L dt + √η ρ(J) dM, dJ = λ(I(θ) - J) dt + √η λ dM', d<M,M'> = -Cov(g,i) dt",
        "state augmentation, as Malladi et al. (arXiv 2205.10287) for Adam",
        fields.drift_chain,
        fields.diffusion_chain,
        follows_chain=True,
        tracks=_slow_memory,
    ),
    Equation(
        "second_order",
        r"dθ = [b - (η/2)(Db)b] dt + √η S^{1/2} dW",
        f"{_LTE}, written for a drift that need not be a gradient",
        fields.drift_second_order,
        fields.diffusion_chain,
        order=2,
        follows_chain=True,
    ),
    Equation(
        "second_order_unchanged_diffusion",
        r"dθ = [b - (η/2)(Db)b] dt + √η Σ^{1/2} dW",
        "tempting and wrong: the unchanged diffusion of Theorem 2(ii) spoils order 2",
        fields.drift_second_order,
        fields.diffusion_sgd,
        order=2,
        follows_chain=True,
    ),
    Equation(
        "second_order_gradient_form",
        r"dθ = [b - (η/4)∇|b|²] dt + √η S^{1/2} dW",
        f"tempting and wrong for d ≥ 2: the modified loss of {_LTE}, copied to a drift with curl",
        fields.drift_gradient_form,
        fields.diffusion_chain,
        order=2,
        follows_chain=True,
    ),
    Equation(
        "population_signal",
        r"dz = b dt + √η S^{1/2} dW with ρ(I(θ)) read for ρ_B; z = (θ, m), (θ, v) or (θ, m, v)",
        "Theorem 2(ii) carried over to momentum, RMSprop and Adam",
        fields.drift_population_signal,
        fields.diffusion_population_signal,
        follows_chain=True,
        tracks=_has_population,
    ),
    Equation(
        "second_order_independent_noise",
        r"dz = [b + ηc - (η/2)(Db)b] dt + √η S^{1/2} dW, S without Cov(θ, m) and Cov(θ, v)",
        "tempting and wrong here: a Brownian motion of its own for the second moment",
        fields.drift_second_order,
        fields.diffusion_independent,
        order=2,
        follows_chain=True,
    ),
)
"""The equations by name: those that papers print, and ours."""
