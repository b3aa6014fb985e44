"""What a way of measuring must do: errors with their uncertainty, and when they tell nothing."""

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np

from sde.order._question import Question
from sde.order._verdict import Evidence


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a method found.

    Attributes:
        evidence: one per observable.
        variance_ratio: Var/eta of the equation over that of the chain at the finest eta, with its
            error.
        paths: Monte Carlo paths per rung, 0 when exact.
        gains: how much the controls cut the chain's variance, by observable; `None` when exact.

    Added in version 0.2.0.
    """

    evidence: list[Evidence]
    variance_ratio: tuple[float, float]
    paths: int = 0
    gains: dict[str, np.ndarray] | None = None


class Method(abc.ABC):
    """A way of measuring: `sde.Exact` or `sde.MonteCarlo`.

    Attributes:
        name: how reports call it.
        etas: step sizes where none are asked for.

    Added in version 0.2.0.
    """

    name: ClassVar[str]
    etas: ClassVar[tuple[float, ...]]

    def check(self, asked: Question) -> None:
        """Refuse everything that can be refused before anything is measured."""
        del asked

    @abc.abstractmethod
    def measure(self, asked: Question) -> Measurement:
        """The errors of all rungs."""

    def blind(self, verdict: str, claimed: int) -> str | None:
        """Why a verdict about an equation that claims this order is the method's own, or `None`."""
        del verdict, claimed
        return None

    def settings(self) -> dict[str, Any]:
        """What it takes to measure it again, by name."""
        return {}
