"""Scaling of an optimizer's hyperparameters with the step size: the regimes of the literature."""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from jaxtyping import ScalarLike

from pgpo_jax.errors import PGPOValueError

# Names that optax gives to decays whose distance from 1 is scaled.
_DECAYS = ("b1", "b2", "decay", "momentum")


@dataclass(frozen=True)
class Regime:
    r"""The powers of eta of the hyperparameters, whose coefficients are fixed.

    Attributes:
        name: name of the regime.
        source: source of the regime.
        learning_rate: p of the learning rate $\ell\,\eta^p$.
        decay: q of the decays $1 - c\,\eta^q$; `None`: decays are taken as they are.
        epsilon: r of $\epsilon\,\eta^r$.
        weight_decay: w of the decoupled $\lambda\,\eta^w$, so that its step is of order eta.
        noise: s of the factor $\eta^s$ that multiplies the noise of the gradient.

    Added in version 0.2.0.
    """

    name: str
    source: str
    learning_rate: float = 1.0
    decay: float | None = None
    epsilon: float = 0.0
    weight_decay: float = 0.0
    noise: float = 0.0

    def hyperparameters(self, eta: ScalarLike, **rates: float) -> dict[str, Any]:
        """The arguments of an optimizer at one step size.

        Args:
            eta: the step size.
            rates: `learning_rate` (1 by default), `b1`, `b2`, `decay`, `momentum`, `eps`,
                `weight_decay`: the coefficients of the powers. For a scaled decay it is the rate c
                    of 1 - c eta.

        >>> REGIMES["ballistic"].hyperparameters(0.125, learning_rate=0.5, b2=2.0)
        {'learning_rate': 0.0625, 'b2': 0.75}
        """
        scaled: dict[str, Any] = {}
        for name, rate in ({"learning_rate": 1.0} | rates).items():
            if name in _DECAYS:
                scaled[name] = rate if self.decay is None else 1.0 - rate * eta**self.decay
            else:
                scaled[name] = rate * eta ** getattr(self, _POWERS[name])
        return scaled

    def check_rates(self, **rates: float) -> None:
        """Refuse rates that are invalid.

        Raises:
            ValueError: a rate is invalid. The message names it.
        """
        for name, rate in rates.items():
            if name not in (*_DECAYS, *_POWERS):
                raise PGPOValueError(
                    f"a regime scales {', '.join((*_POWERS, *_DECAYS))}; got {name!r}: fix it in "
                    "the optimizer, as in functools.partial(optax.rmsprop, eps_in_sqrt=False)"
                )
            number = isinstance(rate, int | float) and not isinstance(rate, bool)
            if not number or not 0.0 <= rate < math.inf:
                raise PGPOValueError(f"{name} must be a finite number >= 0, got {rate!r}")

    def check(self, eta: float, **rates: float) -> None:
        """Refuse decays outside [0, 1) at this step size.

        Raises:
            ValueError: a decay is outside [0, 1). The message names the rate and the step size.
        """
        for name, value in self.hyperparameters(eta, **rates).items():
            if name in _DECAYS and not 0.0 <= value < 1.0:
                raise PGPOValueError(
                    f"{name} must lie in [0, 1); in the regime {self.name!r} at eta={eta!r} the "
                    f"rate {rates[name]!r} gives {value!r}"
                )


_POWERS = {"learning_rate": "learning_rate", "eps": "epsilon", "weight_decay": "weight_decay"}

REGIMES = MappingProxyType(
    {
        regime.name: regime
        for regime in (
            Regime("fixed", "decays and epsilon stay as they are, as in Li, Tai, E (JMLR 2019)"),
            Regime(
                "ballistic",
                "Callisti, Romito, Triggiano (arXiv 2509.21614): noise of order 1, 1 - beta of eta",
                decay=1.0,
            ),
            Regime(
                "square_root",
                "Malladi et al. (arXiv 2205.10287), with eta for their squared learning rate: "
                "noise of order eta^-1/2, 1 - beta of order eta",
                learning_rate=0.5,
                decay=1.0,
                epsilon=-0.5,
                weight_decay=0.5,
                noise=-0.5,
            ),
        )
    }
)
"""The regimes by name.

Added in version 0.2.0.
"""
