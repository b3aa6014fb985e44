"""The interface of a problem of the laboratory: losses, signals, start and rho."""

import abc
import dataclasses
import functools as ft
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import pgpo_jax
from pgpo_jax.errors import PGPOValueError


@dataclass(frozen=True, kw_only=True)
class Problem(abc.ABC):
    r"""A finite sum $L(\theta) = \frac1N \sum_n \ell_n(\theta)$ with a signal $i_n(\theta)$.

    Your own problem is a frozen dataclass with `losses` and `signals`. If no loss exists, it has
    `gradients` instead of `losses`. Both take one parameter vector and must be traceable by JAX.

    Args:
        alpha: the multiplier's gain, per nat.
        rho_max: the multiplier's cap; `inf` leaves it unclipped.
        theta0: where every chain and equation starts.
        softmin: `None` for the paper's hard `min`; otherwise the temperature tau > 0 of the smooth
            cap $-\tau\log(e^{-e^{\alpha I}/\tau} + e^{-\rho_{max}/\tau})$.
        transversal: the author's statement that the path crosses the hard cap transversally and
            does not stay near it. Then orders 1 and 2 hold in spite of the kink, and order 2 may be
            asked for.
        domain: interval of the exact engine's grid for a single theta; with `None` the engine finds
            it. The chain must not leave it.
        period: the period of losses and signals in every coordinate, or `None`.

    Raises:
        ValueError: a field is out of its range. The message names the field and the value.

    Examples:
        A seventh problem, complete:

        >>> import dataclasses, jax.numpy as jnp, sde
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Cosine(sde.Problem):
        ...     theta0: tuple[float, ...] = (0.5,)
        ...     def losses(self, theta):
        ...         return 1.0 - jnp.cos(theta[0] + jnp.asarray([-0.5, 0.0, 0.5]))
        ...     def signals(self, theta):
        ...         return jnp.tanh(jnp.asarray([0.5, -0.2, 0.1]) * theta[0])
        >>> mean = sde.exact_expectation(Cosine(), "pgpo_minibatch", "mean", eta=1 / 8)
        >>> round(mean, 6)
        0.196368
    """

    theta0: tuple[float, ...]
    alpha: float = 0.7
    rho_max: float = math.inf
    softmin: float | None = None
    transversal: bool = False
    domain: tuple[float, float] | None = None
    period: float | None = None

    def __post_init__(self):
        if len(self.theta0) == 0 or not all(math.isfinite(x) for x in self.theta0):
            raise PGPOValueError(
                f"theta0 must hold at least one finite number, got {self.theta0!r}"
            )
        if not 0 <= self.alpha < math.inf:
            raise PGPOValueError(f"alpha must be a finite number >= 0, got {self.alpha!r}")
        if not self.rho_max >= 1:
            raise PGPOValueError(f"rho_max must be >= 1 (inf: no cap), got {self.rho_max!r}")
        if self.softmin is not None and not 0 < self.softmin < math.inf:
            raise PGPOValueError(f"softmin must be None or a temperature > 0, got {self.softmin!r}")
        if self.softmin is not None and math.isinf(self.rho_max):
            raise PGPOValueError(
                "softmin rounds a cap off, so rho_max must be finite; got rho_max=inf"
            )
        if self.period is not None and not 0 < self.period < math.inf:
            raise PGPOValueError(f"period must be None or a number > 0, got {self.period!r}")
        if self.domain is not None and not self.domain[0] < self.domain[1]:
            raise PGPOValueError(f"domain must be an interval (lo, hi), got {self.domain!r}")
        if self.domain is not None and not self.domain[0] <= self.theta0[0] <= self.domain[1]:
            raise PGPOValueError(
                f"domain must hold theta0, got {self.domain!r} and theta0={self.theta0!r}"
            )

    def losses(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        """Per-example losses `[N]`; a problem that has none defines `gradients` instead."""
        raise NotImplementedError(
            f"{type(self).__name__} defines neither `losses` nor `gradients`; define one of them"
        )

    @abc.abstractmethod
    def signals(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        """Per-example information i_n, `[N]`, in nats."""

    def gradients(self, theta: Float[Array, " d"]) -> Float[Array, "N d"]:
        """Per-example gradients `[N, d]`, by `jax.jacfwd` of `losses` unless overridden."""
        return jax.jacfwd(self.losses)(theta)

    def gradient(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        """The population gradient, the mean of `gradients`."""
        return jnp.mean(self.gradients(theta), axis=0)

    def information(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        """The population signal I, nats; the mean of `signals` unless overridden."""
        return jnp.mean(self.signals(theta))

    def multiplier(self, information: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        r"""$\rho(I)$: `pgpo_jax.multiplier` itself, or the smooth cap where `softmin` is set."""
        if self.softmin is None:
            return pgpo_jax.multiplier(information, self.alpha, self.rho_max)
        tau = self.softmin
        return -tau * jnp.logaddexp(
            -jnp.exp(self.alpha * information) / tau,
            jnp.full_like(information, -self.rho_max / tau),
        )

    @property
    def dim(self) -> int:
        """d, the length of theta."""
        return len(self.theta0)

    @property
    def num_examples(self) -> int:
        """N, the number of examples of the finite sum."""
        return _count_examples(self)

    @property
    def exponential(self) -> bool:
        r"""Whether $\rho = e^{\alpha I}$ exactly, without any cap."""
        return math.isinf(self.rho_max)

    @property
    def kinked(self) -> bool:
        """Whether rho(I(theta)) has a kink: a hard cap on a signal that varies."""
        return self.softmin is None and not self.exponential

    @property
    def smooth(self) -> bool:
        """Whether order 2 may be asked for: no kink, or one that is crossed transversally."""
        return not self.kinked or self.transversal

    @property
    def start(self) -> Float[Array, " d"]:
        """theta0 as an array of the default float type."""
        return jnp.asarray(self.theta0, dtype=float)

    def with_softmin(self, temperature: float) -> "Problem":
        """The same problem with its hard cap rounded off."""
        return dataclasses.replace(self, softmin=temperature)


@ft.lru_cache(maxsize=1024)
def _count_examples(problem: Problem) -> int:
    signals = _shape(problem, "signals")
    losses = signals
    if type(problem).losses is not Problem.losses:
        losses = _shape(problem, "losses")
    if len(signals) != 1 or losses != signals:
        raise PGPOValueError(
            f"{type(problem).__name__} must have one loss and one signal per example, [N] of each, "
            f"got losses of shape {losses} and signals of shape {signals}"
        )
    gradients = _shape(problem, "gradients")
    if gradients != (*signals, problem.dim):
        raise PGPOValueError(
            f"{type(problem).__name__} must have one gradient and one signal per example: "
            f"gradients {(*signals, problem.dim)}, got gradients of shape {gradients}"
        )
    return signals[0]


def _shape(problem: Problem, what: str) -> tuple[int, ...]:
    theta = jax.ShapeDtypeStruct((problem.dim,), jnp.zeros(()).dtype)
    try:
        return jax.eval_shape(getattr(problem, what), theta).shape
    except (TypeError, ValueError, AttributeError) as error:
        raise PGPOValueError(
            f"{what} of {type(problem).__name__} must take theta of shape {theta.shape}, the "
            f"length of theta0, and give an array; it fails with {type(error).__name__}: {error}"
        ) from error
