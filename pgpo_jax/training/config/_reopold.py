import math
from dataclasses import dataclass

from pgpo_jax.training.config._rules import require


@dataclass(frozen=True)
class ReopoldConfig:
    """Settings of the objective reopold: the lower bound, the phases and the entropy mask.

    Added in version 0.2.0.
    """

    floor_lambda: float = 0.3
    """lambda of the lower bound log(lambda) / (1 - lambda) of a token's advantage, in nats: -1.72
    at .3."""
    switch_step: int = 100
    """Number of steps of the first phase, in which tokens below the bound are left out. In the
    second phase advantages are clipped at the bound, and only tokens of large student entropy
    train. 0 starts with the second phase."""
    entropy_share: float = 0.2
    """Share of the tokens of the whole batch that train in the second phase, those of largest
    student entropy. It is rounded to whole tokens, at least one."""

    def __post_init__(self) -> None:
        require(
            0 < self.floor_lambda < 1,
            "ReopoldConfig.floor_lambda must be above 0 and below 1",
            self.floor_lambda,
        )
        require(
            self.switch_step >= 0, "ReopoldConfig.switch_step must be at least 0", self.switch_step
        )
        require(
            0 < self.entropy_share <= 1,
            "ReopoldConfig.entropy_share must be above 0 and at most 1",
            self.entropy_share,
        )

    @property
    def floor(self) -> float:
        """The lower bound of the advantage, in nats.

        >>> round(ReopoldConfig().floor, 9)
        -1.719961149
        """
        return math.log(self.floor_lambda) / (1 - self.floor_lambda)
