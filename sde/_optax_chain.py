"""An optax optimizer as a chain, so that the code that runs is the code that is verified."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from sde._chains import Chain
from sde._named_chains import CHAINS
from sde._regimes import REGIMES, Regime
from sde._state_chain import StateChain
from sde.problems import Problem

_SIGNALS = ("minibatch", "population")


@dataclass(frozen=True, repr=False)
class OptaxChain(StateChain):
    """A `StateChain` of (theta, the optimizer's state); `optax_chain` makes it.

    Attributes:
        make: function from eta to the optimizer.
        regime: regime of its hyperparameters, or `None` if `make` sets them itself.
        rates: rates of the regime, by name.

    Added in version 0.2.0.
    """

    make: Callable[[Any], optax.GradientTransformation] | None = None
    regime: Regime | None = None
    rates: tuple[tuple[str, float], ...] = ()

    def check(self, problem: Problem, eta: float) -> None:
        if self.regime is not None:
            self.regime.check(eta, **dict(self.rates))
        assert self.make is not None
        first, second = (self.make(e).init(problem.start) for e in (eta, 0.5 * eta))
        same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), first, second)
        if not jax.tree.all(same):
            raise PGPOValueError(
                f"{self.name} must begin in a state that does not depend on eta; hyperparameters "
                "in the state (optax.inject_hyperparams) would stay those of one step size"
            )
        state = self.begin(problem)
        try:
            jax.eval_shape(lambda e: self.advance(problem, state, jnp.zeros(1, int), e), eta)
        except TypeError as error:
            if isinstance(error, PGPOTypeError):
                raise
            if "missing" not in str(error) or "argument" not in str(error):
                raise PGPOTypeError(
                    f"a step of {self.name} must be traceable by JAX; it fails with: {error}"
                ) from error
            raise PGPOTypeError(
                f"{self.name} must step on the gradient of a minibatch, the parameters and "
                "information= alone; a line search or a step size that looks at the loss "
                f"(optax.lbfgs, optax.polyak_sgd) cannot. Its update fails with: {error}"
            ) from error


def _takes(optimizer: Callable[..., Any], regime: Regime | None, rates: dict[str, float]) -> bool:
    """Whether its signature takes the arguments of a call."""
    try:
        signature = inspect.signature(optimizer)
        if regime is None:
            signature.bind(1.0)
        else:
            signature.bind(**{"learning_rate": 1.0} | rates)
    except TypeError:
        return False
    except ValueError:
        # A function without a signature.
        return False
    return True


def optax_chain(
    optimizer: Callable[..., Any] | optax.GradientTransformation,
    *,
    regime: str | Regime | None = None,
    signal: str = "minibatch",
    limit: str | Chain | None = None,
    name: str | None = None,
    **rates: float,
) -> OptaxChain:
    r"""The chain of an optax optimizer, which runs the optimizer's own code at every step.

    Each step calls `update` with the gradient of the minibatch and the parameters. Optimizers that
    take `information=` also get the mean signal of the minibatch in nats. Bias correction, epsilon
    and decoupled weight decay are those of the optimizer. `scale_by_information` computes rho in
    float32. All else has the precision of theta.

    The scaling of the hyperparameters with eta must be given, because it decides the equation:

    * without `regime`, `optimizer` is called with eta: `optax.sgd`, `optax.adamw` (which fixes its
      decays), or `lambda eta: optax.adam(eta, b2=1 - 2.0 * eta)`;
    * with a regime of `sde.REGIMES`, it is called with the hyperparameters that the regime makes of
      `rates`, by name.

    Args:
        optimizer: function of eta, or of hyperparameters by name, that returns an optax
            transformation.
        regime: "fixed", "ballistic" (Callisti, Romito, Triggiano, arXiv 2509.21614), "square_root"
            (Malladi et al., arXiv 2205.10287), or a `Regime`.
        signal: "minibatch" or "population": the signal of the minibatch, or I(theta).
        limit: chain whose b and S are used in equations, or its name; see `StateChain`.
        name: name in reports; by default that of `optimizer`.
        rates: of the regime: `learning_rate`, `b1`, `b2`, `decay`, `momentum`, `eps`,
            `weight_decay`.

    Returns:
        A chain for `run_chain`, `estimate_chain` and `Comparison`.

    Raises:
        TypeError: `optimizer` is a finished transformation, whose step size cannot be scaled. Or
            the regime or limit has another type.
        ValueError: the regime, limit, signal or rate is unknown, rates are given without a regime,
            the state holds eta, or a decay is outside [0, 1).

    >>> import functools, jax, optax, pgpo_jax as pgpo, sde
    >>> adamw = optax_chain(
    ...     lambda **h: pgpo.pgpo(optax.adamw(**h), alpha=0.7),
    ...     regime="ballistic", b1=1.0, b2=2.0, eps=0.1, weight_decay=0.01, name="pgpo_adamw",
    ... )
    >>> sde.run_chain("torus", adamw, eta=1 / 4, paths=5, key=jax.random.key(0)).shape
    (5, 2)

    Added in version 0.2.0.
    """
    if isinstance(optimizer, optax.GradientTransformation) or not callable(optimizer):
        raise PGPOTypeError(
            "optimizer must be a function of eta that returns an optax transformation, such as "
            "optax.adamw or `lambda eta: pgpo.pgpo(optax.adamw(eta))`. The step size of a finished "
            f"transformation cannot be scaled. Got {type(optimizer).__name__}"
        )
    if signal not in _SIGNALS:
        raise PGPOValueError(f"signal must be 'minibatch' or 'population', got {signal!r}")
    if isinstance(regime, str):
        if regime not in REGIMES:
            raise PGPOValueError(f"unknown regime {regime!r}; there are {', '.join(REGIMES)}")
        regime = REGIMES[regime]
    if isinstance(limit, str):
        if limit not in CHAINS:
            raise PGPOValueError(f"unknown chain {limit!r}; there are {', '.join(CHAINS)}")
        limit = CHAINS[limit]
    if regime is None and rates:
        raise PGPOValueError(
            f"rates belong to a regime, one of {', '.join(REGIMES)}; got {', '.join(rates)}"
        )
    if regime is not None and not isinstance(regime, Regime):
        raise PGPOTypeError(f"regime must be a name or a sde.Regime, got {type(regime).__name__}")
    if limit is not None and not isinstance(limit, Chain):
        raise PGPOTypeError(f"limit must be a name or a sde.Chain, got {type(limit).__name__}")
    if regime is not None:
        regime.check_rates(**rates)

    def make(eta: Any) -> optax.GradientTransformation:
        try:
            built = (
                optimizer(eta)
                if regime is None
                else optimizer(**regime.hyperparameters(eta, **rates))
            )
        except TypeError as error:
            takes = "eta" if regime is None else ", ".join(("learning_rate", *rates))
            what = f"take {takes}, and" if not _takes(optimizer, regime, rates) else "be made, and"
            raise PGPOTypeError(f"optimizer must {what} fails with: {error}") from error
        if not isinstance(built, optax.GradientTransformation):
            raise PGPOTypeError(
                f"optimizer must give an optax transformation, got {type(built).__name__}"
            )
        return built

    def begin(problem: Problem) -> Any:
        return problem.start, make(1.0 / 1024).init(problem.start)

    def advance(problem: Problem, state: Any, examples: Any, eta: Any) -> Any:
        theta, memory = state
        gradient = jnp.mean(problem.gradients(theta)[examples], axis=0)
        if regime is not None and regime.noise != 0.0:
            mean = problem.gradient(theta)
            gradient = mean + (gradient - mean) * eta**regime.noise
        if signal == "population":
            information = problem.information(theta)
        else:
            information = jnp.mean(problem.signals(theta)[examples])
        # optax adds counts of int32 to decays of float64.
        with jax.numpy_dtype_promotion("standard"):
            update = optax.with_extra_args_support(make(eta)).update
            change, memory = update(gradient, memory, theta, information=information)
            return optax.apply_updates(theta, change), memory

    called = name or getattr(optimizer, "__name__", "optimizer")
    return OptaxChain(
        begin,
        advance,
        limit=limit,
        name=f"optax_chain({called})",
        make=make,
        regime=regime,
        rates=tuple(rates.items()),
    )
